// SPDX-License-Identifier: MIT

/** Several lowers: what the top shows or hides, whiteouts and opaque directories made below the top. */
import { rmSync } from 'node:fs'
import { absent, directory, first, holds, lists, put, remove, rename, replace, touch } from './looks.js'
import { type Case, plain } from './types.js'

const base = { lowers: 3, upper: true, lowerFs: plain, expect: 'coherent' } as const

const topRemoved: Case = {
  ...base,
  name: 'top of three lowers removed reveals the bottom',
  layers: (o) => {
    directory(o.low(1, 'd'), o.low(2, 'd'), o.low(3, 'd'))
    put(o.low(1, 'd/f'), 'top')
    put(o.low(3, 'd/f'), 'bottom')
  },
  warm: ({ overlay }) => touch(overlay.at('d'), overlay.at('d/f')),
  change: ({ overlay }) => remove(overlay.low(1, 'd/f')),
  check: ({ overlay }) => first(holds(overlay.at('d/f'), 'bottom'), lists(overlay.at('d'), ['f'])),
}

const topAdded: Case = {
  ...topRemoved,
  name: 'file added on top of three lowers hides the bottom',
  layers: (o) => {
    directory(o.low(1, 'd'), o.low(2, 'd'), o.low(3, 'd'))
    put(o.low(3, 'd/f'), 'bottom')
  },
  change: ({ overlay }) => put(overlay.low(1, 'd/f'), 'top'),
  check: ({ overlay }) => holds(overlay.at('d/f'), 'top'),
}

const whileHeld = (of: Case, path: string, keeps: 'file' | 'directory'): Case => ({
  ...of,
  name: `${of.name}, while a process holds the ${keeps}`,
  holder: { keeps, path },
})

const topDirectoryRemoved: Case = {
  ...base,
  name: 'directory removed from the top of three lowers leaves the rest merged',
  layers: (o) => {
    directory(o.low(1, 'd'), o.low(2, 'd'), o.low(3, 'd'))
    for (const layer of [1, 2, 3]) put(o.low(layer, `d/from${layer}`), String(layer))
  },
  warm: ({ overlay }) => touch(overlay.at('d'), ...[1, 2, 3].map((layer) => overlay.at(`d/from${layer}`))),
  change: ({ overlay }) => rmSync(overlay.low(1, 'd'), { recursive: true }),
  check: ({ overlay }) => first(lists(overlay.at('d'), ['from2', 'from3']), absent(overlay.at('d/from1'))),
}

const topDirectoryAdded: Case = {
  ...topDirectoryRemoved,
  name: 'directory added to the top of three lowers is merged in',
  layers: (o) => {
    directory(o.low(2, 'd'), o.low(3, 'd'))
    for (const layer of [2, 3]) put(o.low(layer, `d/from${layer}`), String(layer))
  },
  change: ({ overlay }) => {
    directory(overlay.low(1, 'd'))
    put(overlay.low(1, 'd/from1'), '1')
  },
  check: ({ overlay }) =>
    first(lists(overlay.at('d'), ['from1', 'from2', 'from3']), holds(overlay.at('d/from1'), '1')),
}

/** What a directory takes from below its topmost lower is seen in nothing but in what is below it. */
const bottomExchanged: Case = {
  ...base,
  name: 'bottom directory of a stack exchanged for another',
  lowers: 2,
  layers: (o) => {
    directory(o.up('d'), o.low(1, 'd'), o.low(2, 'd/sub'), o.low(2, 'e/sub'))
    put(o.low(2, 'd/sub/old'), 'old')
    put(o.low(2, 'e/sub/new'), 'new')
  },
  warm: ({ overlay }) =>
    touch(overlay.at('d'), overlay.at('d/sub'), overlay.at('d/sub/old'), overlay.at('d/sub/new')),
  change: ({ overlay, changer }) => changer.exchange(overlay.low(2, 'd'), overlay.low(2, 'e')),
  check: ({ overlay }) =>
    first(
      lists(overlay.at('d/sub'), ['new']),
      holds(overlay.at('d/sub/new'), 'new'),
      absent(overlay.at('d/sub/old')),
    ),
}

/** What is looked up below the one place keeps the same from being looked up below the other. */
const bottomRenamed: Case = {
  ...base,
  name: 'bottom directory of a stack renamed to another stack',
  lowers: 2,
  layers: (o) => {
    directory(o.low(1, 'd'), o.low(1, 'e'), o.low(2, 'd/sub'))
    put(o.low(2, 'd/sub/f'), 'f')
  },
  warm: ({ overlay }) => touch(overlay.at('d/sub/f'), overlay.at('e/sub')),
  change: ({ overlay }) => rename(overlay.low(2, 'd'), overlay.low(2, 'e')),
  check: ({ overlay }) =>
    first(absent(overlay.at('d/sub')), lists(overlay.at('e/sub'), ['f']), holds(overlay.at('e/sub/f'), 'f')),
}

const whiteoutMade: Case = {
  ...base,
  name: 'whiteout made in a middle lower hides the bottom',
  layers: (o) => {
    directory(o.low(1, 'd'), o.low(2, 'd'), o.low(3, 'd'))
    put(o.low(3, 'd/f'), 'bottom')
  },
  warm: ({ overlay }) => touch(overlay.at('d/f'), overlay.at('d')),
  change: ({ overlay, changer }) => changer.whiteout(overlay.low(2, 'd/f')),
  check: ({ overlay }) => first(absent(overlay.at('d/f')), lists(overlay.at('d'), [])),
}

const opaqueMade: Case = {
  ...base,
  name: 'directory made opaque in a middle lower hides the bottom',
  layers: (o) => {
    directory(o.low(1, 'd'), o.low(2, 'd'), o.low(3, 'd'))
    put(o.low(2, 'd/middle'), 'middle')
    put(o.low(3, 'd/bottom'), 'bottom')
  },
  warm: ({ overlay }) => touch(overlay.at('d'), overlay.at('d/middle'), overlay.at('d/bottom')),
  change: ({ overlay, changer }) =>
    changer.setXattr(overlay.low(2, 'd'), `${overlay.xattrPrefix}opaque`, 'y'),
  check: ({ overlay }) => first(absent(overlay.at('d/bottom')), lists(overlay.at('d'), ['middle'])),
}

export const stackCases: Case[] = [
  topRemoved,
  topAdded,
  whileHeld(topRemoved, 'd', 'directory'),
  whileHeld(topAdded, 'd', 'directory'),
  { ...whileHeld(topRemoved, 'd/f', 'file'), expect: 'coherent-after-holder', named: 'd/f' },
  { ...whileHeld(topAdded, 'd/f', 'file'), expect: 'coherent-after-holder', named: 'd/f' },
  {
    ...whileHeld(topRemoved, 'd/f', 'file'),
    name: 'top of three lowers removed in an overlay with no upper, while a process holds the file',
    upper: false,
  },
  topDirectoryRemoved,
  topDirectoryAdded,
  { ...whileHeld(topDirectoryRemoved, 'd', 'directory'), expect: 'coherent-after-holder', named: 'd' },
  { ...whileHeld(topDirectoryAdded, 'd', 'directory'), expect: 'coherent-after-holder', named: 'd' },
  {
    ...whileHeld(topDirectoryAdded, 'd', 'directory'),
    name: 'directory added to the top of three lowers with no upper, while a process holds it',
    upper: false,
  },
  bottomExchanged,
  {
    ...whileHeld(bottomExchanged, 'd', 'directory'),
    expect: 'coherent-after-holder',
    named: 'd',
    namedToo: 'e',
  },
  bottomRenamed,
  {
    ...whileHeld(bottomRenamed, 'd', 'directory'),
    expect: 'coherent-after-holder',
    named: 'd',
    namedToo: 'e',
  },
  {
    ...whileHeld(bottomExchanged, 'd', 'directory'),
    name: 'bottom directory of a stack exchanged for another, with no upper, while a process holds it',
    lowers: 3,
    upper: false,
    layers: (o) => {
      directory(o.low(1, 'd'), o.low(2, 'd/sub'), o.low(2, 'e/sub'))
      put(o.low(2, 'd/sub/old'), 'old')
      put(o.low(2, 'e/sub/new'), 'new')
    },
  },
  whiteoutMade,
  {
    ...whiteoutMade,
    name: 'whiteout removed from a middle lower reveals the bottom',
    layers: async (o, changer) => {
      await whiteoutMade.layers(o, changer)
      await changer.whiteout(o.low(2, 'd/f'))
    },
    change: ({ overlay }) => remove(overlay.low(2, 'd/f')),
    check: ({ overlay }) => first(holds(overlay.at('d/f'), 'bottom'), lists(overlay.at('d'), ['f'])),
  },
  opaqueMade,
  {
    ...opaqueMade,
    name: 'directory made opaque in a middle lower, while a process holds it',
    holder: { keeps: 'directory', path: 'd' },
    expect: 'coherent-after-holder',
    named: 'd',
  },
  {
    ...opaqueMade,
    name: 'directory made opaque two levels above what that hides, while a process holds it',
    layers: (o) => directory(o.low(2, 'd/sub'), o.low(3, 'd/sub/bottom')),
    warm: ({ overlay }) => touch(overlay.at('d'), overlay.at('d/sub')),
    check: ({ overlay }) => first(absent(overlay.at('d/sub/bottom')), lists(overlay.at('d/sub'), [])),
    holder: { keeps: 'directory', path: 'd' },
    expect: 'coherent-after-holder',
    named: 'd',
  },
  {
    ...opaqueMade,
    name: 'directory in a middle lower no longer opaque reveals the bottom',
    layers: async (o, changer) => {
      await opaqueMade.layers(o, changer)
      await changer.setXattr(o.low(2, 'd'), `${o.xattrPrefix}opaque`, 'y')
    },
    change: ({ overlay, changer }) =>
      changer.removeXattr(overlay.low(2, 'd'), `${overlay.xattrPrefix}opaque`),
    check: ({ overlay }) =>
      first(holds(overlay.at('d/bottom'), 'bottom'), lists(overlay.at('d'), ['bottom', 'middle'])),
  },
  {
    ...base,
    name: 'directory that the upper redirects gains and loses files under its old name',
    lowers: 1,
    options: ['redirect_dir=on'],
    needsPrivileges: true,
    layers: async (o, changer) => {
      directory(o.low(1, 'from'), o.up('to'))
      put(o.low(1, 'from/old'), 'old')
      await changer.setXattr(o.up('to'), 'trusted.overlay.redirect', '/from')
      await changer.whiteout(o.up('from'))
    },
    warm: ({ overlay }) =>
      touch(overlay.at('to'), overlay.at('to/old'), overlay.at('to/new'), overlay.at('from')),
    change: ({ overlay }) => {
      put(overlay.low(1, 'from/new'), 'new')
      remove(overlay.low(1, 'from/old'))
    },
    check: ({ overlay }) =>
      first(
        holds(overlay.at('to/new'), 'new'),
        absent(overlay.at('to/old')),
        lists(overlay.at('to'), ['new']),
        absent(overlay.at('from')),
      ),
  },
  {
    ...base,
    name: 'overlay on overlay: a change below the inner one shows through both',
    lowers: 1,
    nested: true,
    layers: (o) => {
      put(o.low(1, 'f'), 'old')
      put(o.low(1, 'gone'), 'old')
    },
    warm: ({ overlay }) => touch(overlay.at('f'), overlay.at('gone'), overlay.at('new')),
    change: ({ overlay }) => {
      replace(overlay.low(1, 'f'), 'new')
      remove(overlay.low(1, 'gone'))
      put(overlay.low(1, 'new'), 'new')
    },
    check: ({ overlay }) =>
      first(
        holds(overlay.at('f'), 'new'),
        absent(overlay.at('gone')),
        holds(overlay.at('new'), 'new'),
        lists(overlay.at(), ['f', 'new']),
      ),
  },
  {
    ...base,
    name: 'two overlays that share a lower',
    lowers: 1,
    twin: true,
    layers: (o) => put(o.low(1, 'f'), 'old'),
    warm: ({ overlay }) => {
      for (const one of [overlay, overlay.twin]) if (one) touch(one.at('f'), one.at('new'))
    },
    change: ({ overlay }) => {
      replace(overlay.low(1, 'f'), 'new')
      put(overlay.low(1, 'new'), 'new')
    },
    check: ({ overlay }) =>
      first(
        ...[overlay, overlay.twin].flatMap((one) =>
          one ? [holds(one.at('f'), 'new'), holds(one.at('new'), 'new')] : ['the twin is missing'],
        ),
      ),
  },
]
