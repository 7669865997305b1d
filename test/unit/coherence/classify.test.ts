// SPDX-License-Identifier: MIT
import { describe, expect, test } from 'vitest'
import { classify } from '../../../src/coherence/classify.js'
import { Cached, Kind, type NameFacts, type Stat } from '../../../src/native.js'
import type { OpenLayer } from '../../../src/overlay/types.js'

const all = (1n << 64n) - 1n
const file = 0o100644
const directory = 0o040755
const whiteout = 0o020000

function stat(ino: bigint, mode = file): Stat {
  return {
    mode,
    ino,
    devMajor: 0,
    devMinor: 1,
    rdevMajor: 0,
    rdevMinor: 0,
    nlink: 1,
    uid: 0,
    gid: 0,
    sizeBytes: 0n,
    mtimeNs: 0n,
    ctimeNs: 0n,
    mountId: 0n,
  }
}

const layers = (['upper', 'lower', 'lower'] as const).map((role, index) => ({ role, index }) as OpenLayer)

function facts(cached: NameFacts['cached'], live: Stat | null, ...stats: (Stat | null)[]): NameFacts {
  return { index: 0, cached, live, layers: stats }
}

const rows: [string, NameFacts, number, string | null][] = [
  ['nothing cached', facts(Cached.none, null, null, stat(1n), null), Kind.create, null],
  ['ENOENT cached and still true', facts(Cached.negative, null, null, null, null), Kind.delete, null],
  [
    'ENOENT cached, now in a lower',
    facts(Cached.negative, null, null, null, stat(1n)),
    Kind.create,
    'negative',
  ],
  [
    'ENOENT cached, hidden by a whiteout in the upper',
    facts(Cached.negative, null, stat(9n, whiteout), stat(1n), null),
    Kind.create,
    null,
  ],
  [
    'ENOENT cached, hidden by a whiteout in the first lower',
    facts(Cached.negative, null, null, stat(9n, whiteout), stat(1n)),
    Kind.create,
    null,
  ],
  ['shown, gone below', facts(Cached.positive, stat(1n), null, null, null), Kind.delete, 'ghost'],
  ['ESTALE', facts(Cached.stale, null, null, null, null), Kind.delete, 'ghost'],
  [
    'shown, a whiteout came below',
    facts(Cached.positive, stat(1n), null, stat(9n, whiteout), stat(1n)),
    Kind.create,
    'ghost',
  ],
  ['the same inode', facts(Cached.positive, stat(1n), null, stat(1n), null), Kind.movedTo, null],
  ['another inode', facts(Cached.positive, stat(1n), null, stat(2n), null), Kind.movedTo, 'replaced'],
  [
    'the first lower hides the second now',
    facts(Cached.positive, stat(2n), null, stat(1n), stat(2n)),
    Kind.create,
    'replaced',
  ],
  [
    'copied up: the upper hides the lowers',
    facts(Cached.positive, stat(1n), stat(5n), stat(2n), null),
    Kind.movedTo,
    null,
  ],
  [
    'mode may be a copy',
    facts(Cached.positive, stat(1n), null, stat(1n), null),
    Kind.attributes,
    'attributes',
  ],
  [
    'file became directory',
    facts(Cached.positive, stat(1n), null, stat(2n, directory), null),
    Kind.create,
    'replaced',
  ],
  [
    'a new directory that was looked up already',
    facts(Cached.positive, stat(1n, directory), null, stat(1n, directory), null),
    Kind.create | Kind.directory,
    null,
  ],
  [
    'a directory of the upper that gained a lower',
    facts(Cached.positive, stat(5n, directory), stat(5n, directory), stat(1n, directory), null),
    Kind.create | Kind.directory,
    'unmerged',
  ],
  [
    'one of two merged directories went',
    facts(Cached.positive, stat(1n, directory), null, stat(1n, directory), null),
    Kind.delete | Kind.directory,
    'replaced',
  ],
]

describe('classify', () => {
  test.each(rows)('%s', (_name, given, kind, expected) => {
    expect(classify(given, kind, layers, all)).toBe(expected)
  })

  test('with xino only the lower bits of an inode number are compared', () => {
    const given = facts(Cached.positive, stat((1n << 62n) | 7n), null, stat(7n), null)
    expect(classify(given, Kind.create, layers, (1n << 48n) - 1n)).toBeNull()
  })
})
