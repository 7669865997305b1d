// SPDX-License-Identifier: MIT
import { linkSync, rmSync, symlinkSync } from 'node:fs'
import {
  absent,
  directory,
  first,
  holds,
  is,
  lists,
  look,
  put,
  remove,
  rename,
  replace,
  touch,
} from './looks.js'
import { type Case, plain } from './types.js'

const base = { lowers: 1, upper: true, lowerFs: plain, expect: 'coherent' } as const

const fileCreated: Case = {
  ...base,
  name: 'file created after a cached ENOENT',
  layers: (o) => put(o.low(1, 'other'), '1'),
  warm: ({ overlay }) => touch(overlay.at('new')),
  change: ({ overlay }) => put(overlay.low(1, 'new'), 'new'),
  check: ({ overlay }) => first(holds(overlay.at('new'), 'new'), lists(overlay.at(), ['new', 'other'])),
}

const fileReplaced: Case = {
  ...base,
  name: 'file replaced by rename',
  layers: (o) => put(o.low(1, 'f'), 'old'),
  warm: ({ overlay }) => touch(overlay.at('f')),
  change: ({ overlay }) => replace(overlay.low(1, 'f'), 'new'),
  check: ({ overlay }) => holds(overlay.at('f'), 'new'),
}

const fileRemoved: Case = {
  ...base,
  name: 'file removed',
  layers: (o) => {
    put(o.low(1, 'f'), 'old')
    put(o.low(1, 'other'), '1')
  },
  warm: ({ overlay }) => touch(overlay.at('f'), overlay.at()),
  change: ({ overlay }) => remove(overlay.low(1, 'f')),
  check: ({ overlay }) => first(absent(overlay.at('f')), lists(overlay.at(), ['other'])),
}

const held = (of: Case, keeps: 'file' | 'map', path: string): Case => ({
  ...of,
  name: `${of.name}, while a process ${keeps === 'map' ? 'maps' : 'has'} it${keeps === 'file' ? ' open' : ''}`,
  holder: { keeps, path },
  expect: 'coherent-after-holder',
  named: path,
})

/** Without an upper a fresh mount can be put in its place: right for all who open from now on. */
const heldReadOnly = (of: Case): Case => ({
  ...of,
  name: `${of.name} in an overlay with no upper, while a process has it open`,
  lowers: 2,
  upper: false,
  holder: { keeps: 'file', path: 'f' },
})

const withoutUpper = (of: Case): Case => ({
  ...of,
  name: `${of.name} in an overlay with no upper`,
  lowers: 2,
  upper: false,
})

export const fileCases: Case[] = [
  fileCreated,
  withoutUpper(fileCreated),
  {
    ...fileCreated,
    name: 'file created after a cached ENOENT in a directory that a process holds',
    layers: (o) => {
      directory(o.low(1, 'd'), o.up('d'))
      put(o.low(1, 'd/other'), '1')
    },
    warm: ({ overlay }) => touch(overlay.at('d/new')),
    holder: { keeps: 'directory', path: 'd' },
    change: ({ overlay }) => put(overlay.low(1, 'd/new'), 'new'),
    check: ({ overlay }) =>
      first(holds(overlay.at('d/new'), 'new'), lists(overlay.at('d'), ['new', 'other'])),
  },
  fileReplaced,
  withoutUpper(fileReplaced),
  held(fileReplaced, 'file', 'f'),
  held(fileReplaced, 'map', 'f'),
  heldReadOnly(fileReplaced),
  fileRemoved,
  withoutUpper(fileRemoved),
  held(fileRemoved, 'file', 'f'),
  heldReadOnly(fileRemoved),
  {
    ...base,
    name: 'file renamed',
    layers: (o) => put(o.low(1, 'from'), 'content'),
    warm: ({ overlay }) => touch(overlay.at('from'), overlay.at('to')),
    change: ({ overlay }) => rename(overlay.low(1, 'from'), overlay.low(1, 'to')),
    check: ({ overlay }) => first(absent(overlay.at('from')), holds(overlay.at('to'), 'content')),
  },
  {
    ...base,
    name: 'two files exchanged',
    layers: (o) => {
      put(o.low(1, 'a'), 'a')
      put(o.low(1, 'b'), 'b')
    },
    warm: ({ overlay }) => touch(overlay.at('a'), overlay.at('b')),
    change: ({ overlay, changer }) => changer.exchange(overlay.low(1, 'a'), overlay.low(1, 'b')),
    check: ({ overlay }) => first(holds(overlay.at('a'), 'b'), holds(overlay.at('b'), 'a')),
  },
  {
    ...base,
    name: 'hard link made after a cached ENOENT, and over another file',
    layers: (o) => {
      put(o.low(1, 'one'), 'one')
      put(o.low(1, 'two'), 'two')
    },
    warm: ({ overlay }) => touch(overlay.at('new'), overlay.at('two')),
    change: ({ overlay }) => {
      linkSync(overlay.low(1, 'one'), overlay.low(1, 'new'))
      linkSync(overlay.low(1, 'one'), overlay.low(1, 'spare'))
      rename(overlay.low(1, 'spare'), overlay.low(1, 'third'))
      remove(overlay.low(1, 'two'))
      linkSync(overlay.low(1, 'one'), overlay.low(1, 'two'))
    },
    check: ({ overlay }) =>
      first(
        ...['new', 'third', 'two'].map((name) => holds(overlay.at(name), 'one')),
        absent(overlay.at('spare')),
      ),
  },
  {
    ...base,
    name: 'symlink pointed elsewhere',
    layers: (o) => {
      put(o.low(1, 'one'), 'one')
      put(o.low(1, 'two'), 'two')
      symlinkSync('one', o.low(1, 'link'))
    },
    warm: ({ overlay }) => {
      touch(overlay.at('link'))
      holds(overlay.at('link'), 'one')
    },
    change: ({ overlay }) => {
      symlinkSync('two', overlay.low(1, '.link'))
      rename(overlay.low(1, '.link'), overlay.low(1, 'link'))
    },
    check: ({ overlay }) => holds(overlay.at('link'), 'two'),
  },
  {
    ...base,
    name: 'file becomes a directory',
    layers: (o) => put(o.low(1, 'x'), 'file'),
    warm: ({ overlay }) => touch(overlay.at('x'), overlay.at('x/inside')),
    change: ({ overlay }) => {
      remove(overlay.low(1, 'x'))
      directory(overlay.low(1, 'x'))
      put(overlay.low(1, 'x/inside'), 'inside')
    },
    check: ({ overlay }) =>
      first(
        is(overlay.at('x'), 'directory'),
        holds(overlay.at('x/inside'), 'inside'),
        lists(overlay.at('x'), ['inside']),
      ),
  },
  {
    ...base,
    name: 'directory becomes a file',
    layers: (o) => {
      directory(o.low(1, 'x'))
      put(o.low(1, 'x/inside'), 'inside')
    },
    warm: ({ overlay }) => touch(overlay.at('x'), overlay.at('x/inside')),
    change: ({ overlay }) => {
      rmSync(overlay.low(1, 'x'), { recursive: true })
      put(overlay.low(1, 'x'), 'file')
    },
    check: ({ overlay }) => {
      // Below a file: ENOTDIR.
      const below = look(overlay.at('x/inside'))
      return first(holds(overlay.at('x'), 'file'), below === 'ENOTDIR' ? null : `x/inside is ${below}`)
    },
  },
  {
    ...base,
    name: 'file hidden by the upper changes below: nothing to see',
    stockCoherent: true,
    layers: (o) => {
      put(o.low(1, 'f'), 'lower')
      put(o.up('f'), 'upper')
    },
    warm: ({ overlay }) => touch(overlay.at('f')),
    change: ({ overlay }) => replace(overlay.low(1, 'f'), 'changed'),
    check: ({ overlay }) => holds(overlay.at('f'), 'upper'),
  },
  {
    ...base,
    name: 'file changed in place is shared, not cached',
    stockCoherent: true,
    layers: (o) => put(o.low(1, 'f'), 'old'),
    warm: ({ overlay }) => touch(overlay.at('f')),
    change: ({ overlay }) => put(overlay.low(1, 'f'), 'changed'),
    check: ({ overlay }) => holds(overlay.at('f'), 'changed'),
  },
]
