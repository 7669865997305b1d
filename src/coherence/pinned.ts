// SPDX-License-Identifier: MIT
import { readlink } from 'node:fs/promises'
import { type ByteString, join, split } from '../bytes.js'
import { isSyscallError } from '../errors.js'
import { type Handle, native } from '../native.js'
import type { Holder, OpenLayer, OpenOverlay } from '../overlay/types.js'
import { isDirectory } from './classify.js'
import { procLink } from './holders.js'
import { decodeOverlayHandle, type RealHandle } from './overlay-handle.js'

/**
 * What a process holds of the overlay, or a directory above it: a dentry pins its parents. Its inode is known to
 * overlayfs by the topmost lower one (`ovl_get_inode`, fs/overlayfs/inode.c, 6.18), wherever that is now.
 */
interface Pinned {
  /** Where it is in the overlay. */
  path: ByteString
  /** It was removed through the overlay, and its lower may be there all the same. */
  deleted: boolean
  /** The real inode; null where the overlay has no file handles (in a user namespace; before 6.6). */
  real: RealHandle | null
  ino: bigint
  holders: Holder[]
}

/** Directories read at most to find by inode number where a pinned one has gone to. */
const walkLimit = 4_096
const directoryType = 4

/**
 * Paths to which the lower of what is pinned was renamed, with who pins it. The look-up of a directory there moves the
 * pinned dentry with the layers that it merged before, or fails with ESTALE; a file there has the pinned inode, with
 * the mode and the owner that were copied when that was looked up (measured on 6.18).
 *
 * @param renamed - Where names of the lowers were renamed to: all that is looked at when there are no handles
 */
export async function movedPins(
  overlay: OpenOverlay,
  holders: Holder[],
  renamed: ByteString[],
): Promise<Map<ByteString, Holder[]>> {
  const moved = new Map<ByteString, Holder[]>()
  const byNumber: Pinned[] = []
  for (const pinned of await allPinned(overlay, holders)) {
    const now = pinned.real === null ? null : await whereNow(overlay, pinned.real)
    if (now === null) byNumber.push(pinned)
    else for (const path of now) if (path !== pinned.path || pinned.deleted) add(moved, path, pinned.holders)
  }
  if (byNumber.length > 0) {
    for (const [path, pins] of await findByNumber(overlay, byNumber, renamed)) add(moved, path, pins)
  }
  return moved
}

function add(to: Map<ByteString, Holder[]>, path: ByteString, holders: Holder[]): void {
  to.set(path, [...new Set([...(to.get(path) ?? []), ...holders])])
}

async function allPinned(overlay: OpenOverlay, holders: Holder[]): Promise<Pinned[]> {
  const known = new Map<string, Pinned>()
  const keep = (one: Found, path: ByteString, deleted: boolean, holder: Holder) => {
    const key = `${one.ino} ${path} ${deleted}`
    const before = known.get(key)
    if (before === undefined) known.set(key, { ...one, path, deleted, holders: [holder] })
    else before.holders.push(holder)
  }
  for (const holder of holders) {
    if (!holder.directory) {
      const one = await (holder.deleted ? byLink(overlay, procLink(holder)) : byName(overlay, holder.path))
      if (one !== null) keep(one, holder.path, holder.deleted, holder)
    }
    // What is above a file can only be reached by name: the dentries are pinned, so this looks nothing up anew.
    let path = holder.directory ? holder.path : split(holder.path).directory
    let { deleted } = holder
    for (let link = procLink(holder); path !== ''; link += '/..', path = split(path).directory) {
      const one = await (holder.directory ? byLink(overlay, link) : byName(overlay, path))
      if (one === null) break
      keep(one, path, deleted, holder)
      deleted = false
    }
  }
  return [...known.values()]
}

type Found = Pick<Pinned, 'real' | 'ino'>

async function byLink(overlay: OpenOverlay, link: string): Promise<Found | null> {
  // Above the root of a bind mount another file system may follow, whose server may not answer.
  const target = await native.linkTarget(overlay.lane, link)
  if (target === null || `${target.devMajor}:${target.devMinor}` !== overlay.description.device) return null
  let handle: Handle
  try {
    handle = await native.openTree(overlay.lane, link, { clone: false })
  } catch (error) {
    // The process has ended or let go; or it is another user's.
    if (isSyscallError(error)) return null
    throw error
  }
  try {
    return await describe(overlay, handle, '')
  } finally {
    handle.close()
  }
}

/** A file shows the device of its layer where the layers are on several file systems (`ovl_map_dev_ino`, 6.18). */
async function byName(overlay: OpenOverlay, path: ByteString): Promise<Found | null> {
  return describe(overlay, overlay.root, path)
}

async function describe(overlay: OpenOverlay, root: Handle, path: ByteString): Promise<Found | null> {
  try {
    const stat = await native.statAt(overlay.lane, root, path)
    if (stat === null) return null
    if (isDirectory(stat) && `${stat.devMajor}:${stat.devMinor}` !== overlay.description.device) return null
    const handle = await native.handleAt(overlay.lane, root, path, { fid: true }).catch((error) => {
      if (isSyscallError(error)) return null
      throw error
    })
    return { ino: stat.ino, real: handle === null ? null : decodeOverlayHandle(handle) }
  } catch (error) {
    if (isSyscallError(error)) return null
    throw error
  }
}

/** Paths of the real directory in the lower layers; null when handles cannot be opened here. */
async function whereNow(overlay: OpenOverlay, real: RealHandle): Promise<ByteString[] | null> {
  const paths: ByteString[] = []
  for (const layer of lowers(overlay)) {
    let handle: Handle | null
    try {
      handle = await native.openByHandle(overlay.lane, layer.root, real.real)
    } catch (error) {
      if (isSyscallError(error)) return null
      throw error
    }
    if (handle === null) continue
    try {
      const path = await pathIn(layer, handle)
      if (path !== null && path !== '') paths.push(path)
    } finally {
      handle.close()
    }
  }
  return paths
}

/** Null when it was removed, or lies outside of the layer. */
async function pathIn(layer: OpenLayer, handle: Handle): Promise<ByteString | null> {
  const [top, path] = await Promise.all(
    [layer.root, handle].map(({ fd }) => readlink(`/proc/self/fd/${fd}`, 'latin1')),
  )
  if (path === undefined || top === undefined || path.endsWith(' (deleted)')) return null
  if (path === top) return ''
  const inside = top === '/' ? '/' : `${top}/`
  return path.startsWith(inside) ? path.slice(inside.length) : null
}

/**
 * By inode number, which overlayfs passes on when all layers are on one file system; where they are not, every
 * directory below what was renamed may be it.
 */
async function findByNumber(
  overlay: OpenOverlay,
  pinned: Pinned[],
  renamed: ByteString[],
): Promise<Map<ByteString, Holder[]>> {
  const oneFileSystem = new Set(overlay.layers.map((layer) => layer.device)).size === 1
  const pins = new Map(pinned.map((one) => [BigInt.asUintN(32, one.ino), one]))
  const all = pinned.flatMap(({ holders }) => holders)
  const found = new Map<ByteString, Holder[]>()
  const look = (path: ByteString, ino: bigint) => {
    const one = pins.get(BigInt.asUintN(32, ino))
    if (!oneFileSystem) add(found, path, all)
    else if (one !== undefined && (one.path !== path || one.deleted)) add(found, path, one.holders)
  }
  let left = walkLimit
  for (const layer of lowers(overlay)) {
    for (const top of renamed) {
      const stat = await native.statAt(overlay.lane, layer.root, top).catch(() => null)
      if (stat === null) continue
      look(top, stat.ino)
      const pending = [top]
      for (let at = pending.pop(); at !== undefined && left-- > 0; at = pending.pop()) {
        const entries = await native.readDirectory(overlay.lane, layer.root, at).catch(() => [])
        for (const { name, ino, type } of entries) {
          if (type !== directoryType) continue
          look(join(at, name), ino)
          pending.push(join(at, name))
        }
      }
    }
  }
  return found
}

function lowers(overlay: OpenOverlay): OpenLayer[] {
  return overlay.layers.filter(({ role }) => role === 'lower')
}
