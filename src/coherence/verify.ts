// SPDX-License-Identifier: MIT
import { type ByteString, join, split } from '../bytes.js'
import { isSyscallError } from '../errors.js'
import { Cached, native } from '../native.js'
import type { OpenOverlay, StaleEntry, StaleKind } from '../overlay/types.js'
import { isDirectory } from './classify.js'
import { Comparison, comparePath, unique } from './compare.js'
import { type StaleName, stillCached } from './examine.js'
import type { Oracle } from './oracle.js'

/** A program that opens the file again and again pins it most of the time, but not at every moment. */
const transientPins = 4

/** So many names are asked for without a thread of their own. */
const fewNames = 64

/** Below such a one all is wrong, and it is what to name. */
const wholes = new Set<StaleKind>(['negative', 'ghost', 'replaced', 'unmerged'])

/**
 * What of these names is stale even after a refresh. A name that is cached now has either been looked up anew,
 * which gave the right answer (the barrier before the refresh let no older look-up through), or is pinned. Where
 * the facts cannot tell, a fresh mount can.
 *
 * @param refresh - The refresh once more, for what was pinned for a moment only
 * @returns what is cached still or again, and what of it is stale
 */
export async function verify(
  overlay: OpenOverlay,
  names: StaleName[],
  oracle: () => Promise<Oracle>,
  refresh: () => Promise<void>,
): Promise<{ cached: ByteString[]; left: StaleEntry[] }> {
  if (names.length === 0) return { cached: [], left: [] }
  let remaining = await stillCached(overlay, names)
  for (let attempt = 0; remaining.length > 0 && attempt < transientPins; attempt++) {
    await refresh()
    remaining = await stillPinned(overlay, remaining)
  }
  const cached = remaining.map((entry) => join(entry.directory, entry.name))
  return { cached, left: cached.length > 0 ? await compareAll(overlay, cached, oracle, 'all') : [] }
}

/** What is not cached at all any more need not be compared with the layers again. */
async function stillPinned(overlay: OpenOverlay, names: StaleName[]): Promise<StaleName[]> {
  // Where a layer revalidates, what is cached does not answer at once.
  const answers = names.length <= fewNames && !overlay.layers.some(({ revalidates }) => revalidates)
  const isCached = ({ directory, name }: StaleName) =>
    native.probeCached(overlay.root, directory, [name])[0] !== Cached.none
  if (answers && names.every(isCached)) return names
  return stillCached(overlay, names)
}

/**
 * Every stale entry at these paths, by comparison with a fresh mount. Of a directory that looks right itself what is
 * in it is compared too: one that is pinned keeps the layers that it merged.
 *
 * @param depth - `names`: of a directory only the names in it; `all`: the layers may be others, so all below
 */
export async function compareAll(
  overlay: OpenOverlay,
  paths: Iterable<ByteString>,
  oracle: () => Promise<Oracle>,
  depth: 'names' | 'all',
): Promise<StaleEntry[]> {
  const entries: StaleEntry[] = []
  const fresh = await oracle()
  await fresh.forget()
  const comparison = new Comparison(overlay, fresh)
  for (const path of new Set(paths)) {
    const own = await comparePath(overlay, fresh, path, comparison)
    entries.push(...own)
    // A listing that is wrong, or a name in it, says nothing of what else is below.
    const wrong = own.some((entry) => entry.path === path && wholes.has(entry.kind))
    if (wrong || !(await isCachedDirectory(overlay, path))) continue
    if (depth === 'all') entries.push(...(await comparison.below(path)))
    else entries.push(...(await comparison.directory(path, [])).entries)
  }
  return unique(entries)
}

/**
 * The same for places where nothing needs to be cached for the answer to be wrong: a directory that is held and was
 * renamed in a lower answers for its new place, with the layers that it merged or with ESTALE.
 */
export async function compareLookups(
  overlay: OpenOverlay,
  paths: Iterable<ByteString>,
  oracle: () => Promise<Oracle>,
): Promise<StaleEntry[]> {
  const entries: StaleEntry[] = []
  const found: ByteString[] = []
  for (const path of new Set(paths)) {
    const fails = await staleLookup(overlay, path, oracle)
    if (fails === null) found.push(path)
    else
      entries.push({
        path: fails,
        kind: 'replaced',
        detail: 'the live look-up fails: a held directory came here',
      })
  }
  if (found.length > 0) entries.push(...(await compareAll(overlay, found, oracle, 'all')))
  return unique(entries)
}

/**
 * The topmost name on the way to `path` whose look-up answers ESTALE; null when there is none. ELOOP is the answer where
 * the held directory would come below itself (`d_splice_alias`), or where a symbolic link is on the way, for a fresh
 * mount too.
 */
async function staleLookup(
  overlay: OpenOverlay,
  path: ByteString,
  oracle: () => Promise<Oracle>,
): Promise<ByteString | null> {
  let fails: ByteString | null = null
  for (let at = path; at !== ''; at = split(at).directory) {
    try {
      await native.statAt(overlay.lane, overlay.root, at)
      return fails
    } catch (error) {
      if (!isSyscallError(error)) throw error
      if (error.code === 'ESTALE' || (error.code === 'ELOOP' && (await finds(await oracle(), overlay, at))))
        fails = at
    }
  }
  return fails
}

async function finds(fresh: Oracle, overlay: OpenOverlay, path: ByteString): Promise<boolean> {
  try {
    await fresh.forget()
    return (await native.statAt(overlay.lane, fresh.root, path)) !== null
  } catch (error) {
    if (isSyscallError(error)) return false
    throw error
  }
}

async function isCachedDirectory(overlay: OpenOverlay, path: ByteString): Promise<boolean> {
  const { directory, name } = split(path)
  if (path !== '' && native.probeCached(overlay.root, directory, [name])[0] !== Cached.positive) return false
  try {
    const stat = await native.statAt(overlay.lane, overlay.root, path)
    return stat !== null && isDirectory(stat)
  } catch (error) {
    if (isSyscallError(error, 'ESTALE', 'ELOOP')) return false
    throw error
  }
}
