// SPDX-License-Identifier: MIT

/** cgroup2 below: names come and go with mkdir and rmdir, and at the kernel's own will. */
import { chmodSync, mkdirSync, rmdirSync, writeFileSync } from 'node:fs'
import { controller } from '../fixture/environment.js'
import { acquireController } from '../fixture/lowers.js'
import type { Overlay } from '../fixture/overlay.js'
import {
  absent,
  directory,
  first,
  holds,
  is,
  lists,
  listsSome,
  names,
  namesSome,
  put,
  touch,
} from './looks.js'
import type { Case } from './types.js'

const base = { lowers: 1, upper: true, lowerFs: ['cgroup2'], expect: 'coherent' } as const

/** The files of a cgroup that can be read at any time. */
const core = ['cgroup.procs', 'cgroup.events', 'cgroup.subtree_control']

const removed: Case = {
  ...base,
  name: 'cgroup removed',
  layers: (o) => directory(o.low(1, 'c')),
  warm: ({ overlay }) => touch(overlay.at('c'), overlay.at('c/cgroup.procs')),
  change: ({ overlay }) => rmdirSync(overlay.low(1, 'c')),
  check: ({ overlay }) =>
    first(
      absent(overlay.at('c')),
      absent(overlay.at('c/cgroup.procs')),
      listsSome(overlay.at(), core, ['c']),
    ),
}

const lowerOfMergedRemoved: Case = {
  ...base,
  name: "merged cgroup whose lower is removed: the upper's files stay",
  layers: (o) => {
    directory(o.low(1, 'c'), o.up('c'))
    put(o.up('c/mine'), 'mine')
  },
  warm: ({ overlay }) => touch(overlay.at('c'), overlay.at('c/mine'), overlay.at('c/cgroup.procs')),
  change: ({ overlay }) => rmdirSync(overlay.low(1, 'c')),
  check: ({ overlay }) =>
    first(
      lists(overlay.at('c'), ['mine']),
      holds(overlay.at('c/mine'), 'mine'),
      absent(overlay.at('c/cgroup.procs')),
    ),
}

const upperGainsLower: Case = {
  ...base,
  name: 'directory of the upper alone gains a cgroup',
  layers: (o) => {
    directory(o.up('c'))
    put(o.up('c/mine'), 'mine')
  },
  warm: ({ overlay }) => touch(overlay.at('c'), overlay.at('c/cgroup.procs')),
  change: ({ overlay }) => mkdirSync(overlay.low(1, 'c')),
  check: ({ overlay }) =>
    first(holds(overlay.at('c/cgroup.procs'), ''), listsSome(overlay.at('c'), ['mine', ...core])),
}

const removedAndRecreated: Case = {
  ...base,
  name: 'cgroup removed and recreated',
  layers: (o) => directory(o.low(1, 'c/sub')),
  warm: ({ overlay }) => touch(overlay.at('c'), overlay.at('c/sub'), overlay.at('c/cgroup.procs')),
  change: ({ overlay }) => {
    rmdirSync(overlay.low(1, 'c/sub'))
    rmdirSync(overlay.low(1, 'c'))
    mkdirSync(overlay.low(1, 'c'))
  },
  check: ({ overlay }) =>
    first(
      holds(overlay.at('c/cgroup.procs'), ''),
      listsSome(overlay.at('c'), core, ['sub']),
      absent(overlay.at('c/sub')),
    ),
}

const pinned = (of: Case, keeps: 'directory' | 'cwd'): Case => ({
  ...of,
  name: `${of.name}, while a process ${keeps === 'cwd' ? 'works in' : 'holds'} it`,
  holder: { keeps, path: 'c' },
  expect: 'coherent-after-holder',
  named: 'c',
})

function setController(o: Overlay, sign: '+' | '-', path = ''): void {
  writeFileSync(
    o.low(1, path === '' ? 'cgroup.subtree_control' : `${path}/cgroup.subtree_control`),
    `${sign}${controller()}`,
  )
}

/** Controller files that a child has when its parent's subtree_control has the controller. */
function controllerFiles(o: Overlay): string[] {
  return names(o.low(1, 'c')).filter((name) => name.startsWith(`${controller()}.`))
}

/** Switches the controller on for the layer's parent, so that the layer itself may hand it on. */
function delegate(o: Overlay): void {
  const release = acquireController()
  const parent = o
    .low(1)
    .toString()
    .replace(/\/[^/]*$/, '')
  writeFileSync(`${parent}/cgroup.subtree_control`, `+${controller()}`)
  o.defer('controller', () => {
    writeFileSync(o.low(1, 'cgroup.subtree_control'), `-${controller()}`)
    writeFileSync(`${parent}/cgroup.subtree_control`, `-${controller()}`)
    release()
  })
}

let appearing: string[] = []

const controllerAppears: Case = {
  ...base,
  name: 'controller files appear by subtree_control',
  layers: (o) => {
    directory(o.low(1, 'c'), o.up('c'))
    delegate(o)
    setController(o, '+')
    appearing = controllerFiles(o)
    setController(o, '-')
  },
  warm: ({ overlay }) => touch(overlay.at('c'), ...appearing.map((name) => overlay.at(`c/${name}`))),
  change: ({ overlay }) => setController(overlay, '+'),
  check: ({ overlay }) =>
    first(
      appearing.length > 0 ? null : 'this controller has no files',
      ...appearing.map((name) => is(overlay.at(`c/${name}`), 'file')),
      listsSome(overlay.at('c'), appearing),
    ),
}

const controllerDisappears: Case = {
  ...controllerAppears,
  name: 'controller files disappear by subtree_control',
  layers: (o) => {
    directory(o.low(1, 'c'), o.up('c'))
    delegate(o)
    setController(o, '+')
    appearing = controllerFiles(o)
  },
  change: ({ overlay }) => setController(overlay, '-'),
  check: ({ overlay }) =>
    first(
      appearing.length > 0 ? null : 'this controller has no files',
      ...appearing.map((name) => absent(overlay.at(`c/${name}`))),
      listsSome(overlay.at('c'), core, appearing),
    ),
}

export const cgroupCases: Case[] = [
  {
    ...base,
    name: 'cgroup created after a cached ENOENT',
    layers: () => undefined,
    warm: ({ overlay }) => touch(overlay.at('c')),
    change: ({ overlay }) => mkdirSync(overlay.low(1, 'c')),
    check: ({ overlay }) =>
      first(
        is(overlay.at('c'), 'directory'),
        holds(overlay.at('c/cgroup.procs'), ''),
        listsSome(overlay.at(), ['c']),
      ),
  },
  {
    ...base,
    name: 'deep tree of cgroups created at once after a cached ENOENT',
    layers: (o) => directory(o.low(1, 'there')),
    warm: ({ overlay }) => touch(overlay.at('a'), overlay.at('there/b')),
    change: ({ overlay }) => directory(overlay.low(1, 'a/b/c/d'), overlay.low(1, 'there/b/c')),
    check: ({ overlay }) =>
      first(holds(overlay.at('a/b/c/d/cgroup.procs'), ''), holds(overlay.at('there/b/c/cgroup.procs'), '')),
  },
  removed,
  pinned(removed, 'directory'),
  pinned(removed, 'cwd'),
  lowerOfMergedRemoved,
  pinned(lowerOfMergedRemoved, 'directory'),
  upperGainsLower,
  pinned(upperGainsLower, 'directory'),
  removedAndRecreated,
  pinned(removedAndRecreated, 'directory'),
  {
    ...base,
    name: "held listing of the mount's root over cgroup2: rewound, and everybody else's",
    layers: (o) => directory(o.low(1, 'old')),
    warm: ({ overlay }) => touch(overlay.at()),
    holder: { keeps: 'directory', path: '' },
    change: ({ overlay }) => {
      mkdirSync(overlay.low(1, 'new'))
      rmdirSync(overlay.low(1, 'old'))
    },
    check: async ({ overlay, holder, held }) =>
      first(
        listsSome(overlay.at(), ['new'], ['old']),
        holder && namesSome(await holder.rewind(held), ['new'], ['old'], "the holder's directory"),
      ),
  },
  controllerAppears,
  controllerDisappears,
  {
    ...controllerAppears,
    name: 'controller files appear by subtree_control, in a listing that is held',
    holder: { keeps: 'directory', path: 'c' },
  },
  {
    ...base,
    name: 'chmod of a cgroup lets an unprivileged reader in',
    needsUnprivileged: true,
    layers: (o) => {
      directory(o.low(1, 'c'))
      chmodSync(o.low(1, 'c'), 0o700)
    },
    warm: async ({ overlay, reader }) => {
      touch(overlay.at('c'))
      await reader?.list(overlay.at('c')).catch(() => undefined)
    },
    change: ({ overlay }) => chmodSync(overlay.low(1, 'c'), 0o755),
    check: async ({ overlay, reader }) => {
      const seen = await reader?.list(overlay.at('c')).catch((error) => [String(error.code)])
      return namesSome(seen ?? [], core, [], 'c')
    },
  },
]
