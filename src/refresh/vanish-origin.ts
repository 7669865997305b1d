// SPDX-License-Identifier: MIT
import type { ByteString } from '../bytes.js'
import { mountLowers } from '../coherence/fresh-mount.js'
import { decodeOrigin, decodeOverlayHandle, type RealHandle } from '../coherence/overlay-handle.js'
import { isSyscallError } from '../errors.js'
import { native } from '../native.js'
import type { OpenLayer, OpenOverlay } from '../overlay/types.js'

/**
 * Where the upper's copy of a directory came from. overlayfs stores the handle of the lower directory in the xattr
 * `overlay.origin` when it copies the directory up, and also when it first merges an upper directory that was there
 * before (ovl_fix_origin); measured on 6.18 with tmpfs, ext4 and cgroup2 as lower. Renaming a directory keeps its
 * origin, replacing it does not.
 */
export async function originOf(
  overlay: OpenOverlay,
  upper: OpenLayer,
  path: ByteString,
): Promise<RealHandle | null> {
  const value = await native.getXattr(overlay.lane, upper.root, path, `${xattrPrefix(overlay)}origin`)
  return value === null ? null : decodeOrigin(value)
}

/** Where overlayfs keeps its xattrs: option `userxattr` (5.11) puts them where an ordinary user may write. */
export function xattrPrefix(overlay: OpenOverlay): string {
  return overlay.description.options.some(([name]) => name === 'userxattr')
    ? 'user.overlay.'
    : 'trusted.overlay.'
}

/** The lower layers on the file system that the origin names. */
export async function layersOfOrigin(overlay: OpenOverlay, origin: RealHandle): Promise<OpenLayer[]> {
  const uuids = new Map<string, ByteString | null>()
  const found: OpenLayer[] = []
  for (const layer of overlay.layers) {
    if (layer.role !== 'lower') continue
    if (!uuids.has(layer.device)) uuids.set(layer.device, await uuidOf(overlay, layer))
    if (uuids.get(layer.device) === origin.uuid) found.push(layer)
  }
  // Zeros name no file system: any one without a uuid has them. Then it must be the only one there is.
  const devices = new Set(
    overlay.layers.filter((layer) => layer.role === 'lower').map((layer) => layer.device),
  )
  return /^\0*$/.test(origin.uuid) && devices.size > 1 ? [] : found
}

/**
 * The uuid that overlayfs knows the layer's file system by: an overlay with this layer on top writes it in the
 * handle of its root. (FS_IOC_GETFSUUID would tell from 6.9 on, and not for every file system.)
 */
async function uuidOf(overlay: OpenOverlay, layer: OpenLayer): Promise<ByteString | null> {
  const other = overlay.layers.find((candidate) => candidate !== layer && candidate.role !== 'data')
  if (other === undefined) return null
  const root = await mountLowers(overlay, [layer, other])
  try {
    const handle = await native.handleAt(overlay.lane, root, '', { fid: true })
    return handle === null ? null : (decodeOverlayHandle(handle)?.uuid ?? null)
  } finally {
    root.close()
  }
}

/**
 * True when the inode is gone from the layer. While an overlay still pins it a removed directory can be opened by
 * its handle (tmpfs, ext4); its link count of 0 tells. Rejects when it cannot be told.
 */
export async function isGone(overlay: OpenOverlay, layer: OpenLayer, origin: RealHandle): Promise<boolean> {
  const handle = await native.openByHandle(overlay.lane, layer.root, origin.real)
  if (handle === null) return true
  try {
    const stat = await native.statAt(overlay.lane, handle, '')
    return stat === null || stat.nlink === 0
  } catch (error) {
    if (isSyscallError(error, 'ESTALE')) return true
    throw error
  } finally {
    handle.close()
  }
}
