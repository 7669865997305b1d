// SPDX-License-Identifier: MIT
import { Cached, Kind, type NameFacts, type Stat } from '../native.js'
import type { OpenLayer, StaleKind } from '../overlay/types.js'
import { nameKinds } from '../watch/changes.js'

const S_IFMT = 0o170000
const S_IFDIR = 0o040000
const S_IFCHR = 0o020000

export function isDirectory(stat: Stat): boolean {
  return (stat.mode & S_IFMT) === S_IFDIR
}

/** A character device 0:0 hides what lies below it (Documentation/filesystems/overlayfs.rst). */
export function isWhiteout(stat: Stat): boolean {
  return (stat.mode & S_IFMT) === S_IFCHR && stat.rdevMajor === 0 && stat.rdevMinor === 0
}

/** The layer stack of one name, as far as it needs no look at its parents. */
export interface Visible {
  /** Uppermost layer that has the name, or null when none has or a whiteout hides it. */
  top: { layer: OpenLayer; stat: Stat } | null
  /** How many layers the directory merges, 0 when it is none. */
  directories: number
  /** A non-directory in the upper hides whatever the lowers do. */
  hiddenByUpper: boolean
}

export function visible(layers: readonly OpenLayer[], stats: readonly (Stat | number | null)[]): Visible {
  let top: Visible['top'] = null
  let directories = 0
  for (const layer of layers) {
    const stat = stats[layer.index]
    if (layer.role === 'data' || stat === null || typeof stat !== 'object') continue
    if (!isDirectory(stat)) {
      if (top === null && layer.role === 'upper') return { top: null, directories: 0, hiddenByUpper: true }
      if (top === null && !isWhiteout(stat)) top = { layer, stat }
      break
    }
    top ??= { layer, stat }
    directories++
  }
  return { top, directories, hiddenByUpper: false }
}

/**
 * Is the cached answer for a name stale, after a change of `kind` to it in a lower layer? Null: it is coherent.
 *
 * It may call a coherent answer stale (a whiteout or an opaque directory further up hides the name): that costs
 * a refresh and nothing else. It never calls a stale answer coherent:
 * - nothing cached is never stale;
 * - a cached inode pins the real inode, so an inode number that is still equal is the same inode;
 * - of a directory the number tells only the top of its stack, so directories are refreshed unless a single new
 *   layer is all there is;
 * - mode and owner are copied at lookup, where stat shows the real ones: nothing to compare, so refreshed.
 */
export function classify(
  facts: NameFacts,
  kind: number,
  layers: readonly OpenLayer[],
  inodeMask: bigint,
): StaleKind | null {
  if (facts.cached === Cached.none) return null
  const now = visible(layers, facts.layers)
  if (now.hiddenByUpper) return null
  if (facts.cached === Cached.stale) return 'ghost'
  if (facts.cached === Cached.negative) return now.top === null ? null : 'negative'
  if (now.top === null || facts.live === null) return 'ghost'
  if (isDirectory(facts.live) !== isDirectory(now.top.stat)) return 'replaced'
  const sameInode = ((facts.live.ino ^ now.top.stat.ino) & inodeMask) === 0n
  if (!isDirectory(facts.live)) {
    if (!sameInode || facts.live.mode !== now.top.stat.mode) return 'replaced'
    return kind & Kind.attributes ? 'attributes' : null
  }
  return classifyDirectory(kind, now, sameInode)
}

function classifyDirectory(kind: number, now: Visible, sameInode: boolean): StaleKind | null {
  if ((kind & nameKinds) === 0) return kind & Kind.attributes ? 'attributes' : null
  if (kind & (Kind.delete | Kind.movedFrom)) return 'replaced'
  if (now.directories === 1 && sameInode && (kind & Kind.attributes) === 0) return null
  return now.directories > 1 ? 'unmerged' : 'replaced'
}
