// SPDX-License-Identifier: MIT

/** Modes and owners: stat shows the lower's, but permission checks use what overlayfs copied at lookup. */
import { chmodSync, chownSync } from 'node:fs'
import { unprivileged } from '../fixture/environment.js'
import type { Verdict } from '../fixture/eventually.js'
import { absent, directory, first, put, rename, touch } from './looks.js'
import { type Case, plain, type Scene } from './types.js'

const base = {
  lowers: 1,
  upper: true,
  lowerFs: plain,
  expect: 'coherent',
  needsUnprivileged: true,
} as const

/** What the unprivileged reader gets: content or an errno's name. */
async function reads({ reader, overlay }: Scene, path: string, expected: string): Promise<Verdict> {
  const seen = await reader?.read(overlay.at(path)).catch((error) => error.code)
  return seen === expected ? null : `${path} reads as ${seen}, not ${expected}`
}

const file = (name: string, from: number, to: number, before: string, after: string): Case => ({
  ...base,
  name,
  layers: (o) => {
    put(o.low(1, 'f'), 'content')
    chmodSync(o.low(1, 'f'), from)
  },
  warm: async (scene) => {
    const wrong = await reads(scene, 'f', before)
    if (wrong !== null) throw new Error(wrong)
  },
  change: ({ overlay }) => chmodSync(overlay.low(1, 'f'), to),
  check: (scene) => reads(scene, 'f', after),
})

const fileOpened = file('chmod lets an unprivileged reader in', 0o600, 0o644, 'EACCES', 'content')
const fileClosed = file('chmod keeps an unprivileged reader out', 0o644, 0o600, 'content', 'EACCES')

const directoryOpened: Case = {
  ...base,
  name: 'chmod of a directory lets an unprivileged reader in',
  layers: (o) => {
    directory(o.low(1, 'd'))
    put(o.low(1, 'd/f'), 'content')
    chmodSync(o.low(1, 'd'), 0o700)
  },
  warm: async ({ overlay, reader }) => {
    touch(overlay.at('d'))
    await reader?.read(overlay.at('d/f')).catch(() => undefined)
  },
  change: ({ overlay }) => chmodSync(overlay.low(1, 'd'), 0o755),
  check: async (scene) => {
    const seen = await scene.reader?.list(scene.overlay.at('d')).catch((error) => [String(error.code)])
    return first(await reads(scene, 'd/f', 'content'), seen?.join() === 'f' ? null : `d lists ${seen}`)
  },
}

export const attributeCases: Case[] = [
  fileOpened,
  fileClosed,
  { ...fileClosed, name: `${fileClosed.name}, in an overlay with no upper`, lowers: 2, upper: false },
  {
    ...fileClosed,
    name: `${fileClosed.name}, while a process has the file open`,
    holder: { keeps: 'file', path: 'f' },
    expect: 'coherent-after-holder',
    named: 'f',
  },
  {
    ...fileClosed,
    name: `${fileClosed.name}, in an overlay with no upper, while a process has the file open`,
    lowers: 2,
    upper: false,
    holder: { keeps: 'file', path: 'f' },
  },
  {
    ...fileClosed,
    name: 'chmod keeps an unprivileged reader out of a file that is then renamed, while a process has it open',
    holder: { keeps: 'file', path: 'f' },
    change: ({ overlay }) => {
      chmodSync(overlay.low(1, 'f'), 0o600)
      rename(overlay.low(1, 'f'), overlay.low(1, 'g'))
    },
    check: async (scene) => first(absent(scene.overlay.at('f')), await reads(scene, 'g', 'EACCES')),
    expect: 'coherent-after-holder',
    named: 'f',
    // Not looked at before: the inode that is held is found there, with the mode of before.
    namedToo: 'g',
  },
  directoryOpened,
  {
    ...directoryOpened,
    name: `${directoryOpened.name}, while a process holds it`,
    holder: { keeps: 'directory', path: 'd' },
    expect: 'coherent-after-holder',
    named: 'd',
  },
  {
    ...base,
    name: 'chown lets the new owner in',
    layers: (o) => {
      put(o.low(1, 'f'), 'content')
      chmodSync(o.low(1, 'f'), 0o600)
    },
    warm: async (scene) => {
      const wrong = await reads(scene, 'f', 'EACCES')
      if (wrong !== null) throw new Error(wrong)
    },
    change: ({ overlay }) => chownSync(overlay.low(1, 'f'), unprivileged.uid, unprivileged.gid),
    check: (scene) => reads(scene, 'f', 'content'),
  },
  {
    ...fileClosed,
    name: "chmod of the mount's root, in an overlay with no upper",
    lowers: 2,
    upper: false,
    change: ({ overlay }) => {
      chmodSync(overlay.low(1), 0o700)
    },
    layers: (o) => put(o.low(1, 'f'), 'content'),
  },
]
