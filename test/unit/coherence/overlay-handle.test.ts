// SPDX-License-Identifier: MIT
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { decodeOrigin, decodeOverlayHandle, sameReal } from '../../../src/coherence/overlay-handle.js'

/** The origin of a directory copied up from ext4, as Linux 6.18 on x86-64 wrote it. */
const ext4 = '00fb1d00018f251d4406664872926a7861767fde5f0c0000001ea9bc81'

describe('decodeOrigin', () => {
  it('reads what the kernel wrote', () => {
    const origin = decodeOrigin(Buffer.from(ext4, 'hex'))!
    expect(origin.upper).toBe(false)
    expect(Buffer.from(origin.uuid, 'latin1').toString('hex')).toBe('8f251d4406664872926a7861767fde5f')
    expect(origin.real.type).toBe(1)
    expect(Buffer.from(origin.real.bytes, 'latin1').toString('hex')).toBe('0c0000001ea9bc81')
  })

  it('refuses another magic, version, byte order, an unknown flag, and every length that does not fit', () => {
    const altered = (at: number, value: number) => {
      const bytes = Buffer.from(ext4, 'hex')
      bytes[at] = value
      return decodeOrigin(bytes)
    }
    expect(altered(0, 1)).toBeNull()
    expect(altered(1, 0xfa)).toBeNull()
    expect(altered(3, 0x01)).toBeNull()
    expect(altered(3, 0x08)).toBeNull()
    expect(altered(2, 30)).toBeNull()
    expect(altered(2, 21)).toBeNull()
    for (let length = 0; length < ext4.length / 2; length++)
      expect(decodeOrigin(Buffer.from(ext4, 'hex').subarray(0, length))).toBeNull()
  })

  it('never throws, and never reads past the end', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        const origin = decodeOrigin(bytes)
        if (origin !== null) expect(origin.real.bytes.length + 21).toBeLessThanOrEqual(bytes.length)
      }),
    )
  })
})

describe('decodeOverlayHandle', () => {
  const handle = (flags: string) => ({
    type: 0xf8,
    bytes: Buffer.from(`000000${ext4.slice(0, 6)}${flags}${ext4.slice(8)}`, 'hex').toString('latin1'),
  })

  it('finds the same inode in the upper of one overlay and the lower of another', () => {
    const [upper, lower] = [decodeOverlayHandle(handle('04'))!, decodeOverlayHandle(handle('00'))!]
    expect([upper.upper, lower.upper]).toEqual([true, false])
    expect(sameReal(upper, lower)).toBe(true)
  })

  it('refuses handles that are not of overlayfs', () => {
    expect(decodeOverlayHandle({ ...handle('00'), type: 1 })).toBeNull()
  })
})
