// SPDX-License-Identifier: MIT
import { type ByteString, join } from '../bytes.js'
import { Cached, Kind, native, type Stat } from '../native.js'
import type { OpenOverlay, StaleEntry, StaleKind } from '../overlay/types.js'
import { type LowerChanges, nameKinds } from '../watch/changes.js'
import { classify, isDirectory } from './classify.js'

/** A name whose cached answer is stale, with the change that made it so. */
export interface StaleName {
  directory: ByteString
  name: ByteString
  kind: StaleKind
  /** Bits of {@link Kind}. */
  change: number
}

export interface Examination {
  stale: StaleName[]
  /** Directories that are cached, so that a listing of them may be held: names that may have come or gone. */
  cachedDirectories: Map<ByteString, ByteString[]>
  /** Directories that the overlay has, in which anything changed. */
  changedDirectories: ByteString[]
  /** Directories that came to these paths: one that is held brings along what it merged before. */
  movedDirectories: ByteString[]
  /** Why everything must be forgotten although no name is known to be stale; '' when not. */
  unknownReason: string
}

/**
 * What the overlay has cached, of all that changed, that is not true any more.
 *
 * @param lookUpDirectories - The overlay verifies by itself what it has cached once it is told (rung "invalidate").
 *   What it has not verified yet cannot be told from what is not cached, and a verification in flight may file what
 *   was true before the change: every changed directory that is there counts, cached or not
 */
export async function examine(
  overlay: OpenOverlay,
  changes: LowerChanges,
  lookUpDirectories = false,
): Promise<Examination> {
  const result: Examination = {
    stale: [],
    cachedDirectories: new Map(),
    changedDirectories: [],
    movedDirectories: movedTo(changes, Kind.directory),
    unknownReason: changes.dirtyReason,
  }
  if (overlay.unmappable !== '') result.unknownReason ||= overlay.unmappable
  const directories = [...changes.directories]
  const requests = directories.map(([directory, names]) => ({ directory, names: [...names.keys()] }))
  for (const directory of changes.dirtyDirectories) requests.push({ directory, names: [] })
  const facts = await native.examine(overlay.lane, overlay.root, layerRoots(overlay), requests, {
    revalidates: overlay.layers.some((layer) => layer.revalidates),
    lookUpDirectories,
  })
  const mask = inodeMask(overlay)
  const linked: { directory: ByteString; names: ByteString[] }[] = []
  for (const [index, { directory, names }] of requests.entries()) {
    const found = facts[index]!
    if (found.cached === Cached.positive) result.changedDirectories.push(directory)
    const kinds = changes.directories.get(directory)
    if (index >= directories.length || kinds === undefined) {
      if (found.cached === Cached.positive) {
        result.unknownReason ||= 'a directory changed too much to keep by name'
        result.cachedDirectories.set(directory, [])
      }
      continue
    }
    const seen = new Set<number>()
    for (const name of found.names) {
      seen.add(name.index)
      const change = kinds.get(names[name.index]!) ?? 0
      const kind = classify(name, change, overlay.layers, mask)
      if (kind !== null) result.stale.push({ directory, name: names[name.index]!, kind, change })
    }
    if (found.cached === Cached.positive) {
      const moved = names.filter((name) => ((kinds.get(name) ?? 0) & nameKinds) !== 0)
      if (moved.length > 0) result.cachedDirectories.set(directory, moved)
    }
    const uncached = names.filter((name, at) => !seen.has(at) && isFileAttributes(kinds.get(name) ?? 0))
    if (uncached.length > 0) linked.push({ directory, names: uncached })
  }
  if (result.stale.length === 0 && result.unknownReason === '') {
    for (const { directory, names } of linked) {
      if (!(await anyHardLinked(overlay, directory, names))) continue
      result.unknownReason = 'attributes changed of a file with several names'
      break
    }
  }
  return result
}

/** @param type - {@link Kind.directory}, or 0 for everything else */
export function movedTo(changes: LowerChanges, type: number): ByteString[] {
  const paths: ByteString[] = []
  for (const [directory, names] of changes.directories) {
    for (const [name, kind] of names) {
      if ((kind & Kind.directory) === type && kind & Kind.movedTo) paths.push(join(directory, name))
    }
  }
  return paths
}

/**
 * After a refresh: which of the names are cached again, or still. Those have either been looked up anew, or are
 * pinned and as stale as before; see {@link file://./verify.ts}.
 */
export async function stillCached(overlay: OpenOverlay, stale: StaleName[]): Promise<StaleName[]> {
  const byDirectory = new Map<ByteString, StaleName[]>()
  for (const entry of stale) {
    const list = byDirectory.get(entry.directory)
    if (list === undefined) byDirectory.set(entry.directory, [entry])
    else list.push(entry)
  }
  const groups = [...byDirectory]
  const requests = groups.map(([directory, entries]) => ({ directory, names: entries.map((e) => e.name) }))
  const facts = await native.examine(overlay.lane, overlay.root, layerRoots(overlay), requests, {
    revalidates: overlay.layers.some((layer) => layer.revalidates),
  })
  const remaining: StaleName[] = []
  for (const [index, [, entries]] of groups.entries()) {
    for (const name of facts[index]?.names ?? []) {
      const entry = entries[name.index]!
      if (classify(name, entry.change, overlay.layers, inodeMask(overlay)) !== null) remaining.push(entry)
    }
  }
  return remaining
}

export function toStaleEntry(stale: StaleName, detail: string): StaleEntry {
  return { path: join(stale.directory, stale.name), kind: stale.kind, detail }
}

export function layerRoots(overlay: OpenOverlay) {
  return overlay.layers.map((layer) => layer.root)
}

/** With xino the upper bits of an inode number say which layer it is from (fs/overlayfs/inode.c, ovl_map_dev_ino). */
function inodeMask(overlay: OpenOverlay): bigint {
  const xino = overlay.description.options.find(([name]) => name === 'xino')?.[1]
  return xino === 'on' || xino === 'auto' ? (1n << 48n) - 1n : (1n << 64n) - 1n
}

function isFileAttributes(kind: number): boolean {
  return (kind & Kind.attributes) !== 0 && (kind & Kind.directory) === 0
}

/** The event names one name of the inode; what the overlay copied may be cached under another. */
async function anyHardLinked(
  overlay: OpenOverlay,
  directory: ByteString,
  names: ByteString[],
): Promise<boolean> {
  for (const layer of overlay.layers) {
    if (layer.role === 'upper') continue
    const stats = await native.statNames(overlay.lane, layer.root, directory, names)
    if (stats.some((stat) => isStat(stat) && stat.nlink > 1 && !isDirectory(stat))) return true
  }
  return false
}

function isStat(stat: Stat | number | null): stat is Stat {
  return stat !== null && typeof stat === 'object'
}
