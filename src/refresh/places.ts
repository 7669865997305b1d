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
  /** Device and inode number. */
  identity: string
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
  /** Layer and path of suspects from which a place was followed. */
  private readonly left = new Set<string>()

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

  /**
   * Follows what was renamed: places known before, and the suspects whose directory it was.
   *
   * @param recent - Of the renames those of this round; the others are from the one before
   * @returns the recent ones that led from no suspect to a place: the next round may know more
   */
  async follow(renames: Rename[], suspects: ReadonlySet<ByteString>, recent: Rename[]): Promise<Rename[]> {
    if (suspects.size === 0) this.clear()
    if (renames.length === 0 || (this.places.length === 0 && suspects.size === 0)) return recent
    for (const place of this.places) {
      // What cannot be found may be on its way: it stays, and shows nowhere.
      for (const at of reached(renames, place.layer, place.path)) {
        if ((await this.identityAt(place.layer.root, at)) !== place.identity) continue
        place.path = at
        break
      }
    }
    const open = new Set(recent)
    for (const rename of renames) {
      const { layer, from } = rename
      const key = `${layer.index} ${from}`
      // A directory that came there later is none that the suspect merges.
      if (!suspects.has(from) || this.left.has(key)) continue
      for (const at of reached(renames, layer, from)) {
        const identity = await this.identityAt(layer.root, at)
        if (identity === null) continue
        this.add({ layer, path: at, identity, of: from })
        this.left.add(key)
        open.delete(rename)
      }
    }
    return [...open]
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
    for (const key of this.left) if (!suspects.has(key.slice(key.indexOf(' ') + 1))) this.left.delete(key)
    for (const { layer, path, identity, of } of this.places) {
      if (path === of || (await this.identityAt(layer.root, path)) !== identity) continue
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

  private clear(): void {
    this.places = []
    this.left.clear()
  }

  private async identityAt(root: Handle, path: ByteString): Promise<string | null> {
    try {
      const stat = await native.statAt(this.overlay.lane, root, path)
      return stat && `${stat.devMajor}:${stat.devMinor} ${stat.ino}`
    } catch (error) {
      if (isSyscallError(error)) return null
      throw error
    }
  }

  private async isTopmost(layer: OpenLayer, path: ByteString): Promise<boolean> {
    for (const { role, index, root } of this.overlay.layers) {
      if (role !== 'lower' || index >= layer.index) continue
      if ((await this.identityAt(root, path)) !== null) return false
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
