// SPDX-License-Identifier: MIT
import { describe, expect, it } from 'vitest'
import {
  mountByPath,
  pathInOverlay,
  type SeenMounts,
  unescapeOctal,
} from '../../../src/coherence/holders-mounts.js'

const mount = (mountPoint: string, root = '', id = 1) => ({ id, mountPoint, root })

describe('pathInOverlay', () => {
  it('is relative to the overlay, through a bind mount of a sub-directory too', () => {
    expect(pathInOverlay(mount('/m'), '/m/a/b')).toBe('a/b')
    expect(pathInOverlay(mount('/m'), '/m')).toBe('')
    expect(pathInOverlay(mount('/'), '/a')).toBe('a')
    expect(pathInOverlay(mount('/'), '/')).toBe('')
    expect(pathInOverlay(mount('/m', 'sub'), '/m')).toBe('sub')
    expect(pathInOverlay(mount('/m', 'sub'), '/m/a')).toBe('sub/a')
  })

  it('does not take a longer name for what lies below', () => {
    expect(pathInOverlay(mount('/m'), '/mm/a')).toBeNull()
    expect(pathInOverlay(mount('/m'), '/')).toBeNull()
  })
})

describe('mountByPath', () => {
  const table: SeenMounts = {
    overlay: [mount('/m', '', 2)],
    all: [
      [1, '/'],
      [2, '/m'],
      [3, '/m/covered'],
      [4, '/n'],
    ],
  }

  it('finds the overlay, unless another mount lies deeper or later', () => {
    expect(mountByPath(table, '/m/a')?.id).toBe(2)
    expect(mountByPath(table, '/m')?.id).toBe(2)
    expect(mountByPath(table, '/m/covered/a')).toBeNull()
    expect(mountByPath(table, '/m/coveredx')?.id).toBe(2)
    expect(mountByPath(table, '/n')).toBeNull()
    expect(mountByPath({ ...table, all: [...table.all, [5, '/m']] }, '/m/a')).toBeNull()
  })
})

describe('unescapeOctal', () => {
  it('undoes what the kernel escapes, once', () => {
    expect(unescapeOctal('/a\\040b\\011\\012\\134040')).toBe('/a b\t\n\\040')
  })
})
