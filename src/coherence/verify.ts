// SPDX-License-Identifier: MIT
import { type ByteString, join, split } from '../bytes.js'
import { isSyscallError } from '../errors.js'
import { Cached, native } from '../native.js'
import type { OpenOverlay, StaleEntry } from '../overlay/types.js'
import { isDirectory } from './classify.js'
import { Comparison, comparePath } from './compare.js'
import { type StaleName, stillCached } from './examine.js'
import type { Oracle } from './oracle.js'

/** A program that opens the file again and again pins it most of the time, but not at every moment. */
const transientPins = 4

/**
 * What of these names is stale even after a refresh. A name that is cached now has either been looked up anew,
 * which gave the right answer (the barrier before the refresh let no older look-up through), or is pinned. Where
 * the facts cannot tell, a fresh mount can.
 *
 * @param refresh - The refresh once more, for what was pinned for a moment only
 */
export async function verify(
  overlay: OpenOverlay,
  names: StaleName[],
  oracle: () => Promise<Oracle>,
  refresh: () => Promise<void>,
): Promise<StaleEntry[]> {
  if (names.length === 0) return []
  let remaining = await stillCached(overlay, names)
  for (let attempt = 0; remaining.length > 0 && attempt < transientPins; attempt++) {
    await refresh()
    remaining = await stillCached(overlay, remaining)
  }
  if (remaining.length === 0) return []
  return compareAll(
    overlay,
    remaining.map((entry) => join(entry.directory, entry.name)),
    oracle,
  )
}

/**
 * Every stale entry at these paths, by comparison with a fresh mount. Of a directory that looks right itself the
 * names in it are compared too: one that is pinned keeps the layers that it merged.
 */
export async function compareAll(
  overlay: OpenOverlay,
  paths: Iterable<ByteString>,
  oracle: () => Promise<Oracle>,
): Promise<StaleEntry[]> {
  const entries: StaleEntry[] = []
  const fresh = await oracle()
  await fresh.forget()
  const comparison = new Comparison(overlay, fresh)
  for (const path of new Set(paths)) {
    const own = await comparePath(overlay, fresh, path, comparison)
    entries.push(...own)
    if (own.length > 0 || !(await isCachedDirectory(overlay, path))) continue
    entries.push(...(await comparison.directory(path, [])).entries)
  }
  return entries
}

async function isCachedDirectory(overlay: OpenOverlay, path: ByteString): Promise<boolean> {
  const { directory, name } = split(path)
  if (path !== '' && native.probeCached(overlay.root, directory, [name])[0] !== Cached.positive) return false
  try {
    const stat = await native.statAt(overlay.lane, overlay.root, path)
    return stat !== null && isDirectory(stat)
  } catch (error) {
    if (isSyscallError(error, 'ESTALE')) return false
    throw error
  }
}
