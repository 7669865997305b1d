// SPDX-License-Identifier: MIT

/** A directory that a process holds open and has read: overlayfs then answers everybody from that one listing. */
import { directory, first, lists, namesSome, put, remove, touch } from './looks.js'
import type { Scene } from './types.js'
import { type Case, plain } from './types.js'

const base = { lowers: 1, upper: true, lowerFs: plain, expect: 'coherent' } as const

/** What the holder reads from its own descriptor once it has rewound it. */
async function rewound({ holder, held }: Scene, present: string[], missing: string[]) {
  return holder === null
    ? null
    : namesSome(await holder.rewind(held), present, missing, "the holder's directory")
}

const subDirectory: Case = {
  ...base,
  name: "held listing of a sub-directory: rewound, and everybody else's",
  layers: (o) => {
    directory(o.low(1, 'd'), o.up('d'))
    put(o.low(1, 'd/old'), 'old')
    put(o.up('d/mine'), 'mine')
  },
  warm: ({ overlay }) => touch(overlay.at('d')),
  holder: { keeps: 'directory', path: 'd' },
  change: ({ overlay }) => {
    put(overlay.low(1, 'd/new'), 'new')
    remove(overlay.low(1, 'd/old'))
  },
  check: async (scene) =>
    first(lists(scene.overlay.at('d'), ['mine', 'new']), await rewound(scene, ['mine', 'new'], ['old'])),
}

const root: Case = {
  ...base,
  name: "held listing of the mount's root: rewound, and everybody else's",
  layers: (o) => put(o.low(1, 'old'), 'old'),
  warm: ({ overlay }) => touch(overlay.at()),
  holder: { keeps: 'directory', path: '' },
  change: ({ overlay }) => {
    put(overlay.low(1, 'new'), 'new')
    remove(overlay.low(1, 'old'))
  },
  check: async (scene) => first(lists(scene.overlay.at(), ['new']), await rewound(scene, ['new'], ['old'])),
}

export const listingCases: Case[] = [
  {
    ...subDirectory,
    name: 'listing of a merged sub-directory that nobody holds',
    stockCoherent: true,
    holder: undefined,
  },
  { ...root, name: "listing of the mount's root that nobody holds", stockCoherent: true, holder: undefined },
  subDirectory,
  root,
  {
    ...root,
    name: "held listing of the root of an overlay with no upper: everybody else's",
    lowers: 2,
    upper: false,
    // The holder's own descriptor stays in the mount that was replaced.
    check: ({ overlay }) => lists(overlay.at(), ['new']),
  },
  {
    ...subDirectory,
    name: "held listing of a sub-directory of an overlay with no upper: everybody else's",
    lowers: 2,
    upper: false,
    layers: (o) => {
      directory(o.low(1, 'd'), o.low(2, 'd'))
      put(o.low(1, 'd/old'), 'old')
      put(o.low(2, 'd/mine'), 'mine')
    },
    check: ({ overlay }) => lists(overlay.at('d'), ['mine', 'new']),
  },
  {
    ...subDirectory,
    name: 'held listing of a directory that the upper has not: never copied up, so named',
    lowers: 2,
    layers: (o) => {
      directory(o.low(1, 'd'), o.low(2, 'd'))
      put(o.low(1, 'd/old'), 'old')
      put(o.low(2, 'd/mine'), 'mine')
    },
    check: ({ overlay }) => lists(overlay.at('d'), ['mine', 'new']),
    expect: 'coherent-after-holder',
    named: 'd',
  },
  {
    ...subDirectory,
    name: 'held listing of a directory that only one lower has: read straight from it',
    stockCoherent: true,
    layers: (o) => {
      directory(o.low(1, 'd'))
      put(o.low(1, 'd/old'), 'old')
    },
    check: async (scene) =>
      first(lists(scene.overlay.at('d'), ['new']), await rewound(scene, ['new'], ['old'])),
  },
]
