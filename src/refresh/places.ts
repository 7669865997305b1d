// SPDX-License-Identifier: MIT
import { type ByteString, join } from '../bytes.js'
import { isSyscallError } from '../errors.js'
import { type Handle, native } from '../native.js'
import type { OpenLayer, OpenOverlay } from '../overlay/types.js'
import type { LowerChanges, Rename } from '../watch/changes.js'
import { touchedBy } from './suspects.js'

/** Where a directory of a lower is that a suspect merges, although it belongs there no longer. */
interface Place {
  layer: OpenLayer
  path: ByteString
  ino: bigint
  /** The suspect. */
  of: ByteString
}

const directoryType = 4

/**
 * Directories of the lowers that were renamed away from below a held directory of the overlay, which still merges them.
 * A directory in one of these that is looked up through the held one has its overlay inode there, and the look-up at
 * its own place fails with ESTALE (`ovl_get_inode`, `d_splice_alias`, 6.18): until a refresh, and again after any.
 * Where the topmost lower of the held one went, its overlay file handle tells: {@link file://../coherence/pinned.ts}.
 */
export class MergedPlaces {
  private places: Place[] = []

  constructor(private readonly overlay: OpenOverlay) {}

  /** What may be wrong after these changes: the places at which something changed, and the suspects that merge them. */
  touchedBy(changes: LowerChanges): ByteString[] {
    const touched = new Set(
      touchedBy(
        changes,
        this.places.map(({ path }) => path),
      ),
    )
    return this.places.filter(({ path }) => touched.has(path)).flatMap(({ path, of }) => [path, of])
  }

  /** Follows what was renamed: places known before, and the suspects whose directory it was. */
  async follow(renames: Rename[], suspects: ReadonlySet<ByteString>): Promise<void> {
    if (renames.length === 0 || (this.places.length === 0 && suspects.size === 0)) return
    const before = this.places
    this.places = []
    for (const { layer, path, ino, of } of before) {
      for (const at of [path, ...reached(renames, layer, path)])
        if ((await this.inodeAt(layer.root, at)) === ino) this.add({ layer, path: at, ino, of })
    }
    for (const { layer, from } of renames) {
      if (!suspects.has(from)) continue
      for (const at of reached(renames, layer, from)) {
        const ino = at === from ? null : await this.inodeAt(layer.root, at)
        if (ino !== null) this.add({ layer, path: at, ino, of: from })
      }
    }
  }

  /**
   * Those that have directories of their own, with the suspect of each.
   *
   * @param moved - Where topmost lowers of held directories went. One that is topmost there too takes the held
   *   directory along, so there is one overlay inode, at one place
   */
  async inTheWay(
    suspects: ReadonlySet<ByteString>,
    moved: ReadonlyMap<ByteString, unknown>,
  ): Promise<Map<ByteString, ByteString>> {
    const found = new Map<ByteString, ByteString>()
    this.places = this.places.filter(({ of }) => suspects.has(of))
    for (const { layer, path, ino, of } of this.places) {
      if ((await this.inodeAt(layer.root, path)) !== ino) continue
      if (moved.has(path) && (await this.isTopmost(layer, path))) continue
      if (await this.hasDirectories(layer, path)) found.set(path, of)
    }
    return found
  }

  private add(place: Place): void {
    const { layer, path, of } = place
    if (!this.places.some((known) => known.layer === layer && known.path === path && known.of === of))
      this.places.push(place)
  }

  private async inodeAt(root: Handle, path: ByteString): Promise<bigint | null> {
    try {
      return (await native.statAt(this.overlay.lane, root, path))?.ino ?? null
    } catch (error) {
      if (isSyscallError(error)) return null
      throw error
    }
  }

  private async isTopmost(layer: OpenLayer, path: ByteString): Promise<boolean> {
    for (const { role, index, root } of this.overlay.layers) {
      if (role !== 'lower' || index >= layer.index) continue
      if ((await this.inodeAt(root, path)) !== null) return false
    }
    return true
  }

  private async hasDirectories(layer: OpenLayer, path: ByteString): Promise<boolean> {
    try {
      const entries = await native.readDirectory(this.overlay.lane, layer.root, path)
      return entries.some(({ type }) => type === directoryType)
    } catch (error) {
      if (isSyscallError(error)) return false
      throw error
    }
  }
}

/** Places followed at most for one directory. */
const reachLimit = 64

/**
 * Where the renames may have led what was at `path`, in their order. Each may have been of something else: the two
 * halves of an exchange follow one another, and a rename that the kernel has merged stands where it was first.
 */
export function reached(renames: Rename[], layer: OpenLayer, path: ByteString): Set<ByteString> {
  const all = new Set([path])
  for (const { layer: of, from, to } of renames) {
    if (of !== layer) continue
    for (const at of [...all]) {
      if (all.size >= reachLimit) break
      if (at === from) all.add(to)
      else if (at.startsWith(`${from}/`)) all.add(join(to, at.slice(from.length + 1)))
    }
  }
  all.delete(path)
  return all
}
