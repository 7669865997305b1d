// SPDX-License-Identifier: MIT
import { describe, expect, it } from 'vitest'
import type { Holder } from '../../../src/overlay/types.js'
import { attribute, isAtOrBelow } from '../../../src/refresh/attribution.js'
import { touchedBy } from '../../../src/refresh/suspects.js'
import { PendingChanges } from '../../../src/watch/changes.js'

const holder = (pid: number, path: string, directory = true): Holder => ({
  pid,
  command: 'x',
  via: 'fd',
  fd: 3,
  path,
  directory,
  deleted: false,
})

describe('attribute', () => {
  it('names who holds the path, or something below it', () => {
    const [own, below, beside] = [holder(1, 'a/b'), holder(2, 'a/b/c/f', false), holder(3, 'a/bc')]
    const holding = { holders: [own, below, beside], moved: new Map() }
    expect(attribute('a/b', holding)).toEqual({ path: 'a/b', holders: [own, below] })
  })

  it('names the nearest directory above that is pinned, by whatever is below it', () => {
    const pins = holder(1, 'a/x/y', false)
    const holding = { holders: [pins, holder(2, '')], moved: new Map() }
    expect(attribute('a/b/c', holding)).toEqual({ path: 'a', holders: [pins] })
  })

  it('names who holds the directory that was renamed to the path, while he still does', () => {
    const [mover, other] = [holder(1, 'old'), holder(2, 'z')]
    const moved = new Map([['new', [mover]]])
    expect(attribute('new', { holders: [mover, other], moved }).holders).toEqual([mover])
    expect(attribute('new', { holders: [other], moved }).holders).toEqual([other])
  })
})

describe('isAtOrBelow', () => {
  it('takes names whole', () => {
    expect(isAtOrBelow('a/b', 'a')).toBe(true)
    expect(isAtOrBelow('ab', 'a')).toBe(false)
    expect(isAtOrBelow('a', '')).toBe(true)
  })
})

describe('touchedBy', () => {
  const change = (directory: string) => ({ layer: 1, directory, name: 'x', kind: 1 })

  it('finds what changes lie below, or on the way to, and everything where changes have no name', () => {
    const paths = ['a/b', 'c', 'a/x/y']
    const pending = new PendingChanges()
    pending.add(change('a/b/deep'), 0n)
    pending.add(change('a'), 0n)
    expect(touchedBy(pending.take(), paths)).toEqual(['a/b', 'a/x/y'])
    pending.addDirty('why', 0n)
    expect(touchedBy(pending.take(), paths)).toEqual(paths)
  })
})
