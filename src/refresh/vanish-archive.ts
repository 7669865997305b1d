// SPDX-License-Identifier: MIT
import { type ByteString, display, join, split } from '../bytes.js'
import { isDirectory } from '../coherence/identity.js'
import { isSyscallError } from '../errors.js'
import { type Handle, native, type Stat } from '../native.js'
import type { OpenLayer, OpenOverlay } from '../overlay/types.js'
import { xattrPrefix } from './vanish-origin.js'

/** Something is not as it must be; nothing was done. */
export class Refusal extends Error {}

/**
 * A directory beside the upper, `<upper>.lowerwatch-archive`, mode 0700, with one directory per act named by the
 * time (UTC). It is on the same mount as the upper, as rename(2) demands: overlayfs itself demands that of the
 * work directory, so an upper is never the root of its mount. To prune is to archive and then remove that: so the
 * overlay loses the directory in one step, and what a crash leaves behind is outside of the upper.
 */
export class Archive {
  readonly #overlay: OpenOverlay
  readonly #policy: 'archive' | 'prune'
  /** The parent of the upper: a clone of its mount, so that no mount below is crossed. */
  readonly #root: Handle
  readonly #upper: ByteString
  readonly #place: ByteString

  private constructor(overlay: OpenOverlay, policy: 'archive' | 'prune', root: Handle, upper: ByteString) {
    this.#overlay = overlay
    this.#policy = policy
    this.#root = root
    this.#upper = upper
    this.#place = `${upper}.lowerwatch-archive`
  }

  /** @throws Refusal when the upper is not where its path says. */
  static async open(overlay: OpenOverlay, upper: OpenLayer, policy: 'archive' | 'prune'): Promise<Archive> {
    const path = upper.path.replace(/\/+$/, '')
    const slash = path.lastIndexOf('/')
    const name = path.slice(slash + 1)
    if (name === '' || name === '.' || name === '..')
      throw new Refusal('the upper layer has no name of its own')
    const root = await native.openTree(overlay.lane, path.slice(0, slash) || '/', { clone: true })
    try {
      const there = await native.statAt(overlay.lane, root, name)
      const layer = await native.statAt(overlay.lane, upper.root, '')
      if (there === null || layer === null || !sameInode(there, layer))
        throw new Refusal(`${display(path)} is no longer the upper layer, or is a mount point`)
      return new Archive(overlay, policy, root, name)
    } catch (error) {
      root.close()
      throw error
    }
  }

  close(): void {
    this.#root.close()
  }

  /**
   * Everything that goes with `path`, as paths in the overlay, the directory itself included.
   *
   * @throws Refusal when something below is merged with a part of a lower layer that is still there
   */
  async contents(path: ByteString): Promise<ByteString[]> {
    const inUpper = join(this.#upper, path)
    const all = await native.removeTree(this.#overlay.lane, this.#root, inUpper, { dryRun: true })
    const redirect = `${xattrPrefix(this.#overlay)}redirect`
    for (const below of all)
      if ((await this.#xattr(below, redirect)) !== null)
        throw new Refusal(`${display(below.slice(this.#upper.length + 1))} shows a directory of another path`)
    return all.map((below) => below.slice(this.#upper.length + 1))
  }

  /**
   * Moves `path` out of the upper. Says where it is, relative to the upper's parent (null when it was pruned), and
   * what of it could not be removed.
   *
   * @throws Refusal when the archive cannot be used, or another directory had taken the place of `expected`
   */
  async take(path: ByteString, expected: Stat): Promise<{ archivedTo: ByteString | null; leftover: string }> {
    const { lane } = this.#overlay
    const from = join(this.#upper, path)
    const act = await this.#makeAct()
    const target = join(act, path)
    await this.#makeParents(act, split(path).directory)
    await native.rename(lane, this.#root, from, target, { noReplace: true })
    const moved = await native.statAt(lane, this.#root, target)
    if (moved === null || !isDirectory(moved) || !sameInode(moved, expected)) {
      await native.rename(lane, this.#root, target, from, { noReplace: true })
      throw new Refusal('another directory took its place')
    }
    if (this.#policy === 'archive') return { archivedTo: target, leftover: '' }
    try {
      await native.removeTree(lane, this.#root, act, { dryRun: false })
      const rest = await native.readDirectory(lane, this.#root, this.#place)
      if (rest.length === 0) await native.removeTree(lane, this.#root, this.#place, { dryRun: false })
      return { archivedTo: null, leftover: '' }
    } catch (error) {
      if (!isSyscallError(error)) throw error
      return { archivedTo: act, leftover: `not all of ${display(act)} could be removed: ${error.message}` }
    }
  }

  /** A new directory for this act, in an archive that nobody else can write to. */
  async #makeAct(): Promise<ByteString> {
    const { lane } = this.#overlay
    await this.#makeDirectory(this.#place)
    const place = await native.statAt(lane, this.#root, this.#place)
    if (place === null || !isDirectory(place)) throw new Refusal(`${display(this.#place)} is not a directory`)
    if (place.uid !== process.geteuid?.() || (place.mode & 0o077) !== 0)
      throw new Refusal(`${display(this.#place)} is not private to this user`)
    const time = new Date().toISOString().replaceAll(/[-:]/g, '')
    for (let count = 0; ; count++) {
      const act = join(
        this.#place,
        `${this.#policy === 'prune' ? 'prune-' : ''}${time}${count ? `-${count}` : ''}`,
      )
      if (await this.#makeDirectory(act)) return act
    }
  }

  async #makeParents(act: ByteString, directory: ByteString): Promise<void> {
    for (let end = directory.indexOf('/'); directory !== ''; end = directory.indexOf('/', end + 1)) {
      await this.#makeDirectory(join(act, end < 0 ? directory : directory.slice(0, end)))
      if (end < 0) return
    }
  }

  /** False when it was there. */
  async #makeDirectory(path: ByteString): Promise<boolean> {
    try {
      await native.makeDirectory(this.#overlay.lane, this.#root, path, 0o700)
      return true
    } catch (error) {
      if (isSyscallError(error, 'EEXIST')) return false
      throw error
    }
  }

  async #xattr(path: ByteString, name: string): Promise<Buffer | null> {
    try {
      return await native.getXattr(this.#overlay.lane, this.#root, path, name)
    } catch (error) {
      // Links and special files have none by the name of a user xattr.
      if (isSyscallError(error, 'EPERM', 'EOPNOTSUPP', 'ENOENT')) return null
      throw error
    }
  }
}

function sameInode(a: Stat, b: Stat): boolean {
  return a.ino === b.ino && a.devMajor === b.devMajor && a.devMinor === b.devMinor
}
