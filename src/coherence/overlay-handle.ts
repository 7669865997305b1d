// SPDX-License-Identifier: MIT
import { type ByteString, toBuffer } from '../bytes.js'
import type { FileHandle } from '../native.js'

/**
 * What overlayfs writes about a real inode: in `trusted.overlay.origin` of a copied-up file, and (after three
 * bytes of padding) in the file handles of the overlay itself. Layout: `struct ovl_fb`, fs/overlayfs/overlayfs.h,
 * unchanged since 4.13; the padding of handles since 5.5.
 */
export interface RealHandle {
  /** The real inode is in the upper layer. */
  upper: boolean
  /** s_uuid of the layer's file system, 16 bytes; zeros for a file system without one or with `uuid=off`. */
  uuid: ByteString
  /** The handle that open_by_handle_at(2) takes on the layer. */
  real: FileHandle
}

const headerBytes = 21
const magic = 0xfb
const flagBigEndian = 0x01
const flagAnyEndian = 0x02
const flagPathUpper = 0x04
/** OVL_FILEID_V1: the handle type of overlayfs since 5.5. */
const fileIdV1 = 0xf8

/** Decodes the value of an origin xattr; null when it is no handle, or one of another machine's byte order. */
export function decodeOrigin(value: Uint8Array): RealHandle | null {
  const bytes = Buffer.from(value.buffer, value.byteOffset, value.byteLength)
  if (bytes.length <= headerBytes || bytes[0] !== 0 || bytes[1] !== magic) return null
  const length = bytes[2]!
  const flags = bytes[3]!
  if (length <= headerBytes || length > bytes.length) return null
  if (flags & ~(flagBigEndian | flagAnyEndian | flagPathUpper)) return null
  const bigEndian = new Uint8Array(new Uint16Array([1]).buffer)[0] === 0
  if (!(flags & flagAnyEndian) && Boolean(flags & flagBigEndian) !== bigEndian) return null
  return {
    upper: Boolean(flags & flagPathUpper),
    uuid: bytes.toString('latin1', 5, headerBytes),
    real: { type: bytes[4]!, bytes: bytes.toString('latin1', headerBytes, length) },
  }
}

/** Decodes a handle that name_to_handle_at(2) gave for a path in an overlay. */
export function decodeOverlayHandle(handle: FileHandle): RealHandle | null {
  return handle.type === fileIdV1 ? decodeOrigin(toBuffer(handle.bytes).subarray(3)) : null
}

/** The same inode of the same file system, in whatever layer. */
export function sameReal(a: RealHandle, b: RealHandle): boolean {
  return a.uuid === b.uuid && sameHandle(a.real, b.real)
}

export function sameHandle(a: FileHandle, b: FileHandle): boolean {
  return a.type === b.type && a.bytes === b.bytes
}
