// SPDX-License-Identifier: MIT
import type { ByteString } from '../bytes.js'
import { isSyscallError } from '../errors.js'
import { type FileHandle, type Handle, native, type Stat } from '../native.js'
import type { OpenOverlay } from '../overlay/types.js'
import { statInLayer } from './layer-stat.js'
import type { Oracle } from './oracle.js'
import { decodeOverlayHandle, type RealHandle, sameHandle, sameReal } from './overlay-handle.js'

/**
 * Is what the live overlay shows by a name the inode that a fresh mount shows? Measured on 6.18, where layers are
 * tmpfs, ext4 and cgroup2:
 *
 * | | live | oracle | compared by |
 * | --- | --- | --- | --- |
 * | only in lowers | handle of the topmost lower inode | the same bytes | handle |
 * | only in the upper | handle of the upper inode, flag "upper" | the same without the flag | handle |
 * | copied up, file | handle of its origin in the lower | handle of the upper inode | size, mtime, mode |
 * | merged directory | handle of the topmost lower directory | handle of the upper directory | lowers.ino |
 *
 * Handles are AT_HANDLE_FID (6.6); before, or where a layer has no handles, st_ino is compared where it can be.
 * A pinned inode's number is not used again, so an equal number on an equal device is the same inode: devices of
 * the two overlays (one per layer file system) are paired when handles have once shown them to be the same.
 */
export const modeType = 0o170000
export const modeDirectory = 0o040000
export const modeLink = 0o120000

export function isDirectory(stat: Stat): boolean {
  return (stat.mode & modeType) === modeDirectory
}

/** Both answers for one name. */
export interface Pair {
  path: ByteString
  live: Stat
  fresh: Stat
  /** The topmost layer that has the name is the upper layer. */
  inUpper: boolean
}

export type Verdict =
  | { kind: 'same' }
  | { kind: 'replaced' | 'unmerged'; detail: string }
  | { kind: 'unknown'; reason: string }

const same: Verdict = { kind: 'same' }

export class Identity {
  readonly #overlay: OpenOverlay
  readonly #oracle: Oracle
  /** `device of the live overlay` -> `device of the oracle`, for one layer's file system; files only. */
  readonly #devices = new Map<string, string>()
  readonly #xattr: string

  constructor(overlay: OpenOverlay, oracle: Oracle) {
    this.#overlay = overlay
    this.#oracle = oracle
    const user = overlay.description.options.some(([name]) => name === 'userxattr')
    this.#xattr = user ? 'user.overlay.' : 'trusted.overlay.'
  }

  async compare(pair: Pair): Promise<Verdict> {
    const { live, fresh } = pair
    if ((live.mode & modeType) !== (fresh.mode & modeType))
      return { kind: 'replaced', detail: `live: ${typeName(live)}, fresh: ${typeName(fresh)}` }
    const file = !isDirectory(live)
    const alike =
      live.sizeBytes === fresh.sizeBytes && live.mtimeNs === fresh.mtimeNs && live.mode === fresh.mode
    if (file && alike && live.ino === fresh.ino && this.#devices.get(device(live)) === device(fresh))
      return same

    const [a, b] = await Promise.all([
      this.#handle(this.#overlay.root, pair.path),
      this.#handle(this.#oracle.root, pair.path),
    ])
    if (a === null || b === null) return this.#byNumber(pair)
    if (sameReal(a, b)) {
      // A lower file that was copied up and then renamed in the lower layer: overlayfs finds its inode by the origin,
      // and shows the upper copy by both names. No refresh cures that (measured on 6.18, also for a new mount).
      if (file && !alike) return { kind: 'replaced', detail: 'live shows the upper copy that was made of it' }
      if (file && live.ino === fresh.ino) this.#devices.set(device(live), device(fresh))
      if (!file && a.upper) return this.#unmerged(pair.path)
      return same
    }
    if (a.upper || !pair.inUpper) return { kind: 'replaced', detail: 'live and fresh are different inodes' }
    if (!file) return this.#mergedWith(pair.path, a)
    if (!alike) return { kind: 'replaced', detail: 'live and fresh differ in size, time or mode' }
    // A metacopy file has its data in the lower file of the same name.
    if ((await this.#upperXattr(pair.path, 'metacopy')) !== null) return this.#mergedWith(pair.path, a)
    return same
  }

  /** Is the directory, which the live overlay shows from the upper alone, merged in a fresh mount? */
  async #unmerged(path: ByteString): Promise<Verdict> {
    if (path === '' || !(await this.#lowerIsBelow(path))) return same
    const lowers = await this.#oracle.lowers()
    const below = lowers && (await statInLayer(this.#overlay, lowers, path))
    if (!below || !isDirectory(below)) return same
    // A directory in an upper-only directory has no lower; if that one should have, it is the one to name.
    const parent = path.includes('/') ? path.slice(0, path.lastIndexOf('/')) : ''
    if (parent !== '' && (await this.#handle(this.#overlay.root, parent))?.upper !== false) return same
    return { kind: 'unmerged', detail: 'live shows the upper directory alone, a lower layer has it too' }
  }

  /** Is `live`, the lower inode that the live overlay took for a copied-up name, the one a fresh mount takes? */
  async #mergedWith(path: ByteString, live: RealHandle): Promise<Verdict> {
    if (!(await this.#lowerIsBelow(path))) return { kind: 'unknown', reason: 'redirected in the upper layer' }
    const lowers = await this.#oracle.lowers()
    if (lowers === null) return same
    const now = await this.#rawHandle(lowers, path)
    if (now === 'absent')
      return { kind: 'replaced', detail: 'live merges with something of a lower layer that is gone' }
    if (now === null) return { kind: 'unknown', reason: 'a lower layer has no file handles' }
    const real = this.#oracle.lowersAreOverlay ? decodeOverlayHandle(now)?.real : now
    if (real !== undefined && sameHandle(real, live.real)) return same
    return { kind: 'replaced', detail: 'live merges with another inode of a lower layer than fresh' }
  }

  /** The lower layers have `path` by this same path: no redirect on the way, and it is not opaque. */
  async #lowerIsBelow(path: ByteString): Promise<boolean> {
    if ((await this.#upperXattr(path, 'opaque')) === 'y') return false
    for (let end = path.length; end > 0; end = path.lastIndexOf('/', end - 1))
      if ((await this.#upperXattr(path.slice(0, end), 'redirect')) !== null) return false
    return true
  }

  async #upperXattr(path: ByteString, name: string): Promise<ByteString | null> {
    const upper = this.#overlay.layers.find((layer) => layer.role === 'upper')
    if (!upper) return null
    try {
      const value = await native.getXattr(this.#overlay.lane, upper.root, path, this.#xattr + name)
      return value === null ? null : value.toString('latin1')
    } catch (error) {
      if (isSyscallError(error, 'ENOENT', 'ENOTDIR', 'EOPNOTSUPP')) return null
      throw error
    }
  }

  async #handle(root: Handle, path: ByteString): Promise<RealHandle | null> {
    const handle = await this.#rawHandle(root, path)
    return handle === null || handle === 'absent' ? null : decodeOverlayHandle(handle)
  }

  async #rawHandle(root: Handle, path: ByteString): Promise<FileHandle | null | 'absent'> {
    try {
      return await native.handleAt(this.#overlay.lane, root, path, { fid: true })
    } catch (error) {
      if (isSyscallError(error, 'ENOENT', 'ENOTDIR', 'ESTALE', 'ELOOP')) return 'absent'
      // A layer whose file system cannot name its inodes.
      if (isSyscallError(error, 'EOVERFLOW', 'EIO', 'EOPNOTSUPP')) return null
      throw error
    }
  }

  /** Without handles: inode numbers, where overlayfs passes them on. The low half, because xino puts bits above. */
  #byNumber({ live, fresh, inUpper }: Pair): Verdict {
    const oneFileSystem = new Set(this.#overlay.layers.map((layer) => layer.device)).size === 1
    if (inUpper || (isDirectory(live) && !oneFileSystem))
      return { kind: 'unknown', reason: 'no file handles, and inode numbers are not comparable' }
    if (BigInt.asUintN(32, live.ino) === BigInt.asUintN(32, fresh.ino)) return same
    return { kind: 'replaced', detail: `live has inode ${live.ino}, fresh has ${fresh.ino}` }
  }
}

function device(stat: Stat): string {
  return `${stat.devMajor}:${stat.devMinor}`
}

function typeName({ mode }: Stat): string {
  const names: Record<number, string> = {
    1: 'pipe',
    2: 'character device',
    4: 'directory',
    6: 'block device',
    8: 'file',
    10: 'symbolic link',
    12: 'socket',
  }
  return names[(mode & modeType) >> 12] ?? 'unknown type'
}
