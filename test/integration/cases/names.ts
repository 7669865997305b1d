// SPDX-License-Identifier: MIT
import { rmdirSync } from 'node:fs'
import { absent, directory, first, holds, is, put, replace, touch } from './looks.js'
import { type Case, plain } from './types.js'

/** Byte strings: one character is one byte. */
const odd = [
  'new\nline',
  '\xff\xfe',
  '\xc3',
  'caf\xc3\xa9',
  '"quotes" and \'quotes\'',
  'back\\slash\\012',
  ' leading and trailing ',
  '-rf',
  '%n$(echo)',
  'tab\there',
  '...',
  'a'.repeat(255),
  '\xff'.repeat(255),
]

/** cgroup names may not have a newline (EINVAL), nor be so long that a suffix does not fit. */
const inCgroup = odd.filter((name) => !name.includes('\n') && name.length < 200)

const base = { lowers: 1, upper: true, lowerFs: plain, expect: 'coherent' } as const

export const nameCases: Case[] = [
  {
    ...base,
    name: 'files with odd names created after a cached ENOENT',
    layers: () => undefined,
    warm: ({ overlay }) => touch(...odd.map((name) => overlay.at(name))),
    change: ({ overlay }) => {
      for (const name of odd) put(overlay.low(1, name), 'new')
    },
    check: ({ overlay }) => first(...odd.map((name) => holds(overlay.at(name), 'new'))),
  },
  {
    ...base,
    name: 'files with odd names replaced, in directories with odd names',
    layers: (o) => {
      for (const name of odd) {
        directory(o.low(1, name))
        put(o.low(1, `${name}/${name}`), 'old')
      }
    },
    warm: ({ overlay }) => touch(...odd.map((name) => overlay.at(`${name}/${name}`))),
    change: ({ overlay }) => {
      for (const name of odd) replace(overlay.low(1, `${name}/${name}`), 'new')
    },
    check: ({ overlay }) => first(...odd.map((name) => holds(overlay.at(`${name}/${name}`), 'new'))),
  },
  {
    ...base,
    name: 'directories with odd names removed and created',
    lowerFs: [...plain, 'cgroup2'],
    layers: (o) => directory(...inCgroup.map((name) => o.low(1, `${name}-old`))),
    warm: ({ overlay }) =>
      touch(...inCgroup.flatMap((name) => [overlay.at(`${name}-old`), overlay.at(`${name}-new`)])),
    change: ({ overlay }) => {
      for (const name of inCgroup) {
        directory(overlay.low(1, `${name}-new`))
        rmdirSync(overlay.low(1, `${name}-old`))
      }
    },
    check: ({ overlay }) =>
      first(
        ...inCgroup.map((name) => is(overlay.at(`${name}-new`), 'directory')),
        ...inCgroup.map((name) => absent(overlay.at(`${name}-old`))),
      ),
  },
]
