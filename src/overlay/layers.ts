// SPDX-License-Identifier: MIT
import { constants } from 'node:fs'
import { type ByteString, display } from '../bytes.js'
import { isSyscallError, LowerwatchError } from '../errors.js'
import { type Handle, type Lane, type Mount, native, type Stat } from '../native.js'
import { deviceOf, realPathOf } from './discover.js'
import { mountOf, pathInFileSystem, relativeTo, revalidates } from './filesystems.js'
import type { LayerRole, OpenLayer, OverlayDescription } from './types.js'

const O_PATH = 0x200000
const S_IFMT = 0o170000
const S_IFDIR = 0o040000

/** Descriptors opened on one lane that belong together: all are closed, or none. */
export class Opened {
  readonly #handles = new Set<Handle>()

  constructor(readonly lane: Lane) {}

  keep(handle: Handle): Handle {
    this.#handles.add(handle)
    return handle
  }

  /** O_PATH descriptor of an absolute path. */
  async path(path: ByteString): Promise<Handle> {
    return this.keep(await native.openTree(this.lane, path, { clone: false }))
  }

  release(handle: Handle): void {
    this.#handles.delete(handle)
    handle.close()
  }

  /** Closes the lane too. */
  close(): void {
    for (const handle of this.#handles) handle.close()
    this.#handles.clear()
    this.lane.close()
  }
}

/**
 * A detached clone of what `handle` leads to, which takes its place; `handle` itself with the reason where the
 * kernel refuses: EPERM without CAP_SYS_ADMIN, EINVAL for a mount with children that a user namespace locked.
 */
export async function cloneOf(
  opened: Opened,
  handle: Handle,
): Promise<{ handle: Handle; cloneReason: string }> {
  try {
    // Through the descriptor and not the path again: that one may lead elsewhere by now.
    const clone = await native.openTree(opened.lane, `/proc/self/fd/${handle.fd}`, { clone: true })
    opened.keep(clone)
    opened.release(handle)
    return { handle: clone, cloneReason: '' }
  } catch (error) {
    if (!isSyscallError(error, 'EINVAL', 'EPERM')) throw error
    return { handle, cloneReason: `open_tree: ${error.code}` }
  }
}

interface Position {
  index: number
  role: LayerRole
  path: ByteString
}

/** Opens one layer of an overlay. Rejects with LAYER_UNREACHABLE, NOT_PERMITTED or SyscallError. */
export async function openLayer(
  opened: Opened,
  overlay: OverlayDescription,
  mounts: Mount[],
  position: Position,
): Promise<OpenLayer> {
  const { index, role } = position
  const option = role === 'upper' ? 'upperdir' : role === 'data' ? 'data-only' : 'lowerdir'
  const fail = (why: string, hint: string, cause?: unknown) =>
    new LowerwatchError('LAYER_UNREACHABLE', `${role} layer ${display(position.path)} ${why}`, {
      hint,
      cause,
    })
  if (!position.path.startsWith('/')) {
    throw fail('was given as a relative path', `set \`${option}\` for this overlay in the configuration`)
  }
  // Means the descriptors of whoever mounted it; here it would lead to our own.
  if (/^\/(proc\/(self|thread-self)|dev\/fd)\//.test(position.path)) {
    throw fail('was given by a descriptor', `set \`${option}\` for this overlay in the configuration`)
  }
  const { handle, path } = await openPath(opened, overlay, position, fail)
  const stat = await statDirectory(opened.lane, handle, fail)
  const mount = mounts.find(({ id }) => BigInt(id) === stat.mountId)
  if (mount !== undefined && isYounger(mount, overlay)) {
    const covered = await openCovered(opened, overlay, mounts, realPathOf(handle))
    opened.release(handle)
    if (covered === null) throw fail(`is hidden by ${mount.fsType}, mounted on it later`, 'unmount that')
    return layerOf({ index, role, path, covered: true }, covered.handle, '', covered.stat, covered.mount, {
      mounts,
      realPath: covered.realPath,
    })
  }
  const realPath = realPathOf(handle)
  const clone = await cloneOf(opened, handle)
  return layerOf({ index, role, path }, clone.handle, clone.cloneReason, stat, mount, { mounts, realPath })
}

function layerOf(
  position: Position & { covered?: boolean },
  root: Handle,
  cloneReason: string,
  stat: Stat,
  mount: Mount | undefined,
  place: { mounts: Mount[]; realPath: ByteString },
): OpenLayer {
  const nested = mount?.fsType === 'overlay'
  return {
    ...position,
    root,
    cloneReason,
    fsType: mount?.fsType ?? 'unknown',
    device: deviceOf(stat),
    revalidates: mount === undefined || revalidates(mount, place.mounts),
    nested: nested ? { device: deviceOf(mount), directory: pathInFileSystem(mount, place.realPath) } : null,
  }
}

async function openPath(
  opened: Opened,
  overlay: OverlayDescription,
  { role, path }: Position,
  fail: (why: string, hint: string, cause?: unknown) => LowerwatchError,
): Promise<{ handle: Handle; path: ByteString }> {
  try {
    return { handle: await opened.path(path), path }
  } catch (error) {
    const second = role === 'upper' && path === overlay.upper ? overlay.upperVerbatim : null
    if (isSyscallError(error, 'ENOENT') && second != null && second !== path) {
      return { handle: await opened.path(second), path: second }
    }
    if (isSyscallError(error, 'ENOENT', 'ENOTDIR', 'ELOOP')) {
      throw fail('does not exist', 'it was moved or removed, or set `lowerdir` in the configuration', error)
    }
    if (isSyscallError(error, 'EACCES', 'EPERM')) {
      throw new LowerwatchError('NOT_PERMITTED', `${role} layer ${display(path)}: not permitted`, {
        hint: 'run as root',
        cause: error,
      })
    }
    throw error
  }
}

async function statDirectory(
  lane: Lane,
  handle: Handle,
  fail: (why: string, hint: string) => LowerwatchError,
): Promise<Stat> {
  const stat = await native.statAt(lane, handle, '')
  if (stat === null || (stat.mode & S_IFMT) !== S_IFDIR) throw fail('is not a directory', 'it was replaced')
  return stat
}

/**
 * True for a mount that was made after the overlay, so that it cannot be what the overlay took as its layer: an
 * overlay mounted on its own lower directory, or something that was mounted there later.
 */
function isYounger(mount: Mount, overlay: OverlayDescription): boolean {
  if (deviceOf(mount) === overlay.device && mount.fsType === 'overlay') return true
  const first = overlay.mounts[0]?.uniqueId ?? null
  return first !== null && mount.uniqueId !== null && mount.uniqueId > first
}

/** What lies at `path` below every mount that is younger than the overlay; null if no path leads there. */
async function openCovered(
  opened: Opened,
  overlay: OverlayDescription,
  mounts: Mount[],
  path: ByteString,
): Promise<{ handle: Handle; stat: Stat; mount: Mount; realPath: ByteString } | null> {
  const older = mounts.filter((mount) => !isYounger(mount, overlay))
  const mount = mountOf(older, path)
  if (mount === undefined) return null
  const parent = await opened.path(mount.mountPoint)
  const onTop = await native.statAt(opened.lane, parent, '')
  if (onTop === null || onTop.mountId !== BigInt(mount.id)) {
    opened.release(parent)
    return null
  }
  // A clone of one mount shows the directories that mounts lie on. It stays open: a directory of a clone that is
  // gone cannot become a layer of a new overlay.
  const clone = await cloneOf(opened, parent)
  if (clone.cloneReason !== '') return null
  try {
    const flags = O_PATH | constants.O_DIRECTORY
    const relative = relativeTo(path, mount.mountPoint)
    const handle = opened.keep(await native.openBeneath(opened.lane, clone.handle, relative, flags))
    const stat = await native.statAt(opened.lane, handle, '')
    return stat === null ? null : { handle, stat, mount, realPath: path }
  } catch (error) {
    if (isSyscallError(error, 'ENOENT', 'ENOTDIR')) return null
    throw error
  }
}
