// SPDX-License-Identifier: MIT
import { rmdirSync, rmSync } from 'node:fs'
import { absent, directory, first, holds, is, lists, put, remove, rename, touch } from './looks.js'
import { type Case, plain } from './types.js'

const base = { lowers: 1, upper: true, lowerFs: plain, expect: 'coherent' } as const

const lowerOfMergedRemoved: Case = {
  ...base,
  name: "merged directory whose lower is removed: the upper's files stay",
  layers: (o) => {
    directory(o.low(1, 'd/sub'), o.up('d'))
    put(o.low(1, 'd/theirs'), 'theirs')
    put(o.up('d/mine'), 'mine')
  },
  warm: ({ overlay }) =>
    touch(overlay.at('d'), overlay.at('d/theirs'), overlay.at('d/mine'), overlay.at('d/sub')),
  change: ({ overlay }) => rmSync(overlay.low(1, 'd'), { recursive: true }),
  check: ({ overlay }) =>
    first(
      lists(overlay.at('d'), ['mine']),
      holds(overlay.at('d/mine'), 'mine'),
      absent(overlay.at('d/theirs')),
      absent(overlay.at('d/sub')),
    ),
}

const upperGainsLower: Case = {
  ...base,
  name: 'directory of the upper alone gains a lower',
  layers: (o) => {
    directory(o.up('d'))
    put(o.up('d/mine'), 'mine')
  },
  warm: ({ overlay }) => touch(overlay.at('d'), overlay.at('d/theirs')),
  change: ({ overlay }) => {
    directory(overlay.low(1, 'd'))
    put(overlay.low(1, 'd/theirs'), 'theirs')
  },
  check: ({ overlay }) =>
    first(lists(overlay.at('d'), ['mine', 'theirs']), holds(overlay.at('d/theirs'), 'theirs')),
}

const removedAndRecreated: Case = {
  ...base,
  name: 'directory removed and recreated',
  layers: (o) => {
    directory(o.low(1, 'd'))
    put(o.low(1, 'd/old'), 'old')
  },
  warm: ({ overlay }) => touch(overlay.at('d'), overlay.at('d/old'), overlay.at('d/new')),
  change: ({ overlay }) => {
    rmSync(overlay.low(1, 'd'), { recursive: true })
    directory(overlay.low(1, 'd'))
    put(overlay.low(1, 'd/new'), 'new')
  },
  check: ({ overlay }) =>
    first(lists(overlay.at('d'), ['new']), holds(overlay.at('d/new'), 'new'), absent(overlay.at('d/old'))),
}

const removed: Case = {
  ...base,
  name: 'directory removed',
  layers: (o) => {
    directory(o.low(1, 'd'))
    put(o.low(1, 'other'), '1')
  },
  warm: ({ overlay }) => touch(overlay.at('d'), overlay.at()),
  change: ({ overlay }) => rmdirSync(overlay.low(1, 'd')),
  check: ({ overlay }) => first(absent(overlay.at('d')), lists(overlay.at(), ['other'])),
}

const renamed: Case = {
  ...base,
  name: 'directory renamed',
  layers: (o) => {
    directory(o.low(1, 'from/sub'))
    put(o.low(1, 'from/sub/f'), 'f')
  },
  warm: ({ overlay }) =>
    touch(overlay.at('from/sub'), overlay.at('from/sub/f'), overlay.at('to'), overlay.at('to/sub')),
  change: ({ overlay }) => rename(overlay.low(1, 'from'), overlay.low(1, 'to')),
  check: ({ overlay }) =>
    first(absent(overlay.at('from')), holds(overlay.at('to/sub/f'), 'f'), absent(overlay.at('from/sub/f'))),
}

const heldPinned = (of: Case, keeps: 'directory' | 'cwd'): Case => ({
  ...of,
  name: `${of.name}, while a process ${keeps === 'cwd' ? 'works in' : 'holds'} it`,
  holder: { keeps, path: 'd' },
  expect: 'coherent-after-holder',
  named: 'd',
})

const heldReadOnly = (of: Case, keeps: 'directory' | 'cwd'): Case => ({
  ...of,
  name: `${of.name} in an overlay with no upper, while a process ${keeps === 'cwd' ? 'works in' : 'holds'} it`,
  lowers: 2,
  upper: false,
  holder: { keeps, path: 'd' },
})

export const directoryCases: Case[] = [
  {
    ...base,
    name: 'directory created after a cached ENOENT',
    layers: (o) => put(o.low(1, 'other'), '1'),
    warm: ({ overlay }) => touch(overlay.at('d')),
    change: ({ overlay }) => directory(overlay.low(1, 'd')),
    check: ({ overlay }) => first(is(overlay.at('d'), 'directory'), lists(overlay.at(), ['d', 'other'])),
  },
  {
    ...base,
    name: 'deep tree created at once after a cached ENOENT',
    layers: (o) => directory(o.low(1, 'there')),
    warm: ({ overlay }) => touch(overlay.at('a'), overlay.at('there/b'), overlay.at('there/b/c')),
    change: ({ overlay }) => {
      directory(overlay.low(1, 'a/b/c/d'), overlay.low(1, 'there/b/c'))
      put(overlay.low(1, 'a/b/c/d/leaf'), 'leaf')
      put(overlay.low(1, 'there/b/c/leaf'), 'leaf')
    },
    check: ({ overlay }) =>
      first(holds(overlay.at('a/b/c/d/leaf'), 'leaf'), holds(overlay.at('there/b/c/leaf'), 'leaf')),
  },
  {
    ...base,
    name: 'tree moved into the lower from elsewhere on its file system',
    lowers: 2,
    // The other end of the rename is in a lower that this name hides nothing of.
    layers: (o) => {
      directory(o.low(2, 'store/t/u'))
      put(o.low(2, 'store/t/u/leaf'), 'leaf')
    },
    warm: ({ overlay }) => touch(overlay.at('t'), overlay.at('store/t/u/leaf')),
    change: ({ overlay }) => rename(overlay.low(2, 'store/t'), overlay.low(1, 't')),
    check: ({ overlay }) => first(holds(overlay.at('t/u/leaf'), 'leaf'), absent(overlay.at('store/t'))),
  },
  removed,
  heldPinned(removed, 'directory'),
  heldPinned(removed, 'cwd'),
  heldReadOnly(removed, 'directory'),
  heldReadOnly(removed, 'cwd'),
  lowerOfMergedRemoved,
  heldPinned(lowerOfMergedRemoved, 'directory'),
  heldPinned(lowerOfMergedRemoved, 'cwd'),
  upperGainsLower,
  heldPinned(upperGainsLower, 'directory'),
  heldPinned(upperGainsLower, 'cwd'),
  removedAndRecreated,
  heldPinned(removedAndRecreated, 'directory'),
  heldPinned(removedAndRecreated, 'cwd'),
  heldReadOnly(removedAndRecreated, 'directory'),
  renamed,
  {
    ...renamed,
    name: 'directory renamed, while a process holds it',
    // The overlay's directory inode is found again by its lower, so a lookup of the new name moves the held entry.
    holder: { keeps: 'directory', path: 'from' },
  },
  {
    ...base,
    name: 'changes in a directory where a process works',
    layers: (o) => {
      directory(o.low(1, 'd'))
      put(o.low(1, 'd/old'), 'old')
    },
    warm: ({ overlay }) => touch(overlay.at('d'), overlay.at('d/old'), overlay.at('d/new')),
    holder: { keeps: 'cwd', path: 'd' },
    change: ({ overlay }) => {
      put(overlay.low(1, 'd/new'), 'new')
      remove(overlay.low(1, 'd/old'))
    },
    check: ({ overlay }) =>
      first(holds(overlay.at('d/new'), 'new'), absent(overlay.at('d/old')), lists(overlay.at('d'), ['new'])),
  },
]
