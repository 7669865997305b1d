// SPDX-License-Identifier: MIT
import { readlinkSync } from 'node:fs'
import { type ByteString, display, fromText } from '../bytes.js'
import { isSyscallError, LowerwatchError } from '../errors.js'
import { type Handle, type Lane, type Mount, native } from '../native.js'
import { parseOverlayOptions } from './options.js'
import type { OverlayDescription } from './types.js'

/** The mount table at one moment. */
export interface MountTable {
  mounts: Mount[]
  overlays: OverlayDescription[]
}

/** That of the own mount namespace. Rejects with SyscallError if it cannot be read. */
export async function readMountTable(lane: Lane): Promise<MountTable> {
  const { mounts } = await native.listMounts(lane)
  return { mounts, overlays: describeOverlays(mounts) }
}

/** Every overlay superblock of the own mount namespace. Rejects with SyscallError if the mount table cannot be read. */
export async function discoverOverlays(lane: Lane): Promise<OverlayDescription[]> {
  return (await readMountTable(lane)).overlays
}

/** The overlays in a mount table, one per superblock device. */
export function describeOverlays(mounts: Mount[]): OverlayDescription[] {
  const byDevice = new Map<string, OverlayDescription>()
  for (const mount of inAgeOrder(mounts)) {
    if (mount.fsType !== 'overlay') continue
    const device = deviceOf(mount)
    let overlay = byDevice.get(device)
    if (overlay === undefined) {
      const { verbatim, ...options } = parseOverlayOptions(mount.superOptions)
      overlay = { device, mounts: [], ...options, upperVerbatim: verbatim?.upper ?? null }
      byDevice.set(device, overlay)
    }
    const { id, uniqueId, parentId, mountPoint, root, mountOptions, propagation } = mount
    overlay.mounts.push({ id, uniqueId, parentId, mountPoint, root, mountOptions, propagation })
  }
  return [...byDevice.values()]
}

/** Mount ids are used again, so only the unique ones (6.8) tell the age; else the order of the table stays. */
function inAgeOrder(mounts: Mount[]): Mount[] {
  if (mounts.some((mount) => mount.uniqueId === null)) return mounts
  return [...mounts].sort((a, b) => (a.uniqueId! < b.uniqueId! ? -1 : a.uniqueId! > b.uniqueId! ? 1 : 0))
}

export function deviceOf(facts: { devMajor: number; devMinor: number }): string {
  return `${facts.devMajor}:${facts.devMinor}`
}

/**
 * The overlay that is mounted topmost at `mountPoint` (links in it are followed, a relative path starts at the
 * working directory). An overlay mounted since `descriptions` was made is found too.
 * Rejects with NO_SUCH_PATH, NOT_PERMITTED or NOT_OVERLAY, which names what is there instead.
 */
export async function findOverlay(
  descriptions: OverlayDescription[],
  mountPoint: ByteString,
  lane?: Lane,
): Promise<OverlayDescription> {
  const ownLane = lane ?? new native.Lane('find')
  let handle: Handle | undefined
  try {
    handle = await openPath(ownLane, mountPoint)
    const path = realPathOf(handle)
    const stat = await native.statAt(ownLane, handle, '')
    const { mounts } = await native.listMounts(ownLane)
    const mount = mounts.find((candidate) => BigInt(candidate.id) === stat?.mountId)
    if (mount?.fsType !== 'overlay' || mount.mountPoint !== path) throw notOverlay(mountPoint, path, mount)
    const known = descriptions.find(
      (overlay) => overlay.device === deviceOf(mount) && overlay.mounts.some(({ id }) => id === mount.id),
    )
    return known ?? describeOverlays(mounts).find((overlay) => overlay.device === deviceOf(mount))!
  } finally {
    handle?.close()
    if (lane === undefined) ownLane.close()
  }
}

async function openPath(lane: Lane, path: ByteString): Promise<Handle> {
  try {
    return await native.openTree(lane, absolutePath(path), { clone: false })
  } catch (error) {
    if (isSyscallError(error, 'ENOENT', 'ENOTDIR', 'ELOOP', 'ENAMETOOLONG')) {
      throw new LowerwatchError('NO_SUCH_PATH', `${display(path)}: no such path`, { cause: error })
    }
    if (isSyscallError(error, 'EACCES', 'EPERM')) {
      throw new LowerwatchError('NOT_PERMITTED', `${display(path)}: not permitted`, {
        hint: 'run as root',
        cause: error,
      })
    }
    throw error
  }
}

function notOverlay(given: ByteString, path: ByteString, mount: Mount | undefined): LowerwatchError {
  const name = display(given)
  if (mount === undefined) return new LowerwatchError('NOT_OVERLAY', `${name}: no overlay is mounted there`)
  const at = display(mount.mountPoint)
  if (mount.fsType === 'overlay') {
    return new LowerwatchError('NOT_OVERLAY', `${name} is not a mount point`, {
      hint: `it lies in the overlay at ${at}; give that path`,
    })
  }
  const what =
    mount.mountPoint === path ? `${mount.fsType} is mounted there` : `it lies on ${mount.fsType} at ${at}`
  return new LowerwatchError('NOT_OVERLAY', `${name} is not an overlay`, { hint: what })
}

export function absolutePath(path: ByteString): ByteString {
  return path.startsWith('/') ? path : `${fromText(process.cwd())}/${path}`
}

/** Where a descriptor leads to, as the kernel prints it: no link in it, every mount below the root resolved. */
export function realPathOf(handle: Handle): ByteString {
  return readlinkSync(`/proc/self/fd/${handle.fd}`, 'latin1')
}
