// SPDX-License-Identifier: MIT
import { describe, expect, test } from 'vitest'
import { Kind } from '../../../src/native.js'
import { kindNames, PendingChanges } from '../../../src/watch/changes.js'

const change = (directory: string, name: string, kind: number) => ({ layer: 1, directory, name, kind })

describe('pending changes', () => {
  test('kinds of one name are merged, and the oldest read time is kept', () => {
    const pending = new PendingChanges()
    pending.add(change('a', 'x', Kind.create), 10n)
    pending.add(change('a', 'x', Kind.delete | Kind.directory), 20n)
    pending.add(change('a', 'y', Kind.attributes), 30n)
    const taken = pending.take()
    expect(taken.sinceNs).toBe(10n)
    expect(taken.directories.get('a')?.get('x')).toBe(Kind.create | Kind.delete | Kind.directory)
    expect(taken.directories.get('a')?.get('y')).toBe(Kind.attributes)
    expect(taken.dirtyReason).toBe('')
  })

  test('taking leaves nothing behind', () => {
    const pending = new PendingChanges()
    pending.add(change('', 'x', Kind.create), 1n)
    pending.take()
    expect(pending.isEmpty).toBe(true)
    expect(pending.take().directories.size).toBe(0)
  })

  test('an overflow makes the whole overlay dirty and says why', () => {
    const pending = new PendingChanges()
    pending.add(change('', '', Kind.layerDirty | Kind.overflow), 1n)
    expect(pending.take().dirtyReason).toBe('event queue overflow')
  })

  test('a directory that was merged stays a dirty directory', () => {
    const pending = new PendingChanges()
    pending.add(change('deep/dir', '', Kind.directoryDirty), 1n)
    const taken = pending.take()
    expect([...taken.dirtyDirectories]).toEqual(['deep/dir'])
    expect(taken.dirtyReason).toBe('')
  })

  test('a layer that is gone is dirty too', () => {
    const pending = new PendingChanges()
    pending.add(change('', '', Kind.layerGone), 1n)
    const taken = pending.take()
    expect(taken.layerGone).toBe(true)
    expect(taken.dirtyReason).not.toBe('')
  })
})

test('kinds have names', () => {
  expect(kindNames(Kind.create | Kind.directory)).toEqual(['create', 'directory'])
})
