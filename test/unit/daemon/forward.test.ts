// SPDX-License-Identifier: MIT
import { expect, test } from 'vitest'
import { forwardedChanges } from '../../../src/daemon/forward.js'
import { Kind } from '../../../src/native.js'
import type { LowerChanges } from '../../../src/watch/changes.js'

function changes(directory: string, name: string, kind: number): LowerChanges {
  return {
    directories: new Map([[directory, new Map([[name, kind]])]]),
    dirtyDirectories: new Set(),
    renames: [],
    dirtyReason: '',
    layerGone: false,
    sinceNs: 0n,
  }
}

test('a change at the same place when the layer is the root of the inner overlay', () => {
  expect(forwardedChanges(changes('a/b', 'x', Kind.create), '')).toEqual([
    { layer: 0, directory: 'a/b', name: 'x', kind: Kind.create },
  ])
})

test('a change below the layer is relative to it', () => {
  expect(forwardedChanges(changes('a/b', 'x', Kind.create), 'a')).toEqual([
    { layer: 0, directory: 'b', name: 'x', kind: Kind.create },
  ])
})

test('a change beside the layer is none, also when its name begins like the layer', () => {
  expect(forwardedChanges(changes('ab', 'x', Kind.create), 'a')).toEqual([])
})

test('a change of the layer itself or of a directory above makes all of it dirty', () => {
  for (const [directory, name] of [
    ['', 'a'],
    ['a', 'b'],
  ] as const) {
    expect(forwardedChanges(changes(directory, name, Kind.delete), 'a/b')).toEqual([
      { layer: 0, directory: '', name: '', kind: Kind.layerDirty },
    ])
  }
})

test('a dirty directory is forwarded relative to the layer', () => {
  const dirty = { ...changes('', 'other', Kind.create), dirtyDirectories: new Set(['a/b']) }
  expect(forwardedChanges(dirty, 'a')).toEqual([
    { layer: 0, directory: 'b', name: '', kind: Kind.directoryDirty },
  ])
})
