// SPDX-License-Identifier: MIT
import type { ByteString } from '../bytes.js'
import { isSyscallError } from '../errors.js'
import { type Handle, native } from '../native.js'
import type { OpenOverlay } from '../overlay/types.js'
import { visible } from './classify.js'
import { layerRoots } from './examine.js'
import { statInLayer } from './layer-stat.js'
import type { Oracle } from './oracle.js'

/** How often a directory is read that changes each time. */
const changingAttempts = 4

/** A directory whose listing is held open by somebody and is stale for everybody. */
export interface StaleListing {
  directory: ByteString
  names: ByteString[]
  /** The upper has the directory, so that a nudge copies nothing up. */
  upperHasIt: boolean
}

/**
 * Which of these cached directories answer a listing that is not true any more. Only merged directories have a
 * listing cache, and only while somebody holds a descriptor that has been read; there is no telling who without
 * a look at every process, so the listing itself is asked.
 *
 * @param oracle - Called when a listing differs from what the layers have: it alone knows whiteouts and opaque
 *   directories above.
 */
export async function staleListings(
  overlay: OpenOverlay,
  directories: ReadonlyMap<ByteString, ByteString[]>,
  oracle: () => Promise<Oracle>,
): Promise<{ checked: ByteString[]; stale: StaleListing[] }> {
  const stale: StaleListing[] = []
  const checked: ByteString[] = []
  for (const [directory, names] of directories) {
    try {
      const merged = await mergedDirectory(overlay, directory)
      if (merged === null) continue
      checked.push(directory)
      const suspects = await suspectNames(overlay, directory, names)
      if (suspects !== null && !(await agrees(overlay, await oracle(), directory, suspects))) {
        stale.push({ directory, names: suspects, upperHasIt: merged.upperHasIt })
      }
    } catch (error) {
      // The directory went away meanwhile: its own event says so.
      if (!isSyscallError(error, 'ENOENT', 'ESTALE', 'ELOOP', 'ENOTDIR', 'ENODEV')) throw error
    }
  }
  return { checked, stale }
}

/**
 * True when live overlay and oracle list the same of `names` (all names when empty) with the same types. A directory that
 * changes while it is read is read again, a few times; each of these changes has an event, after which it is looked at.
 */
export async function agrees(
  overlay: OpenOverlay,
  oracle: Oracle,
  directory: ByteString,
  names: ByteString[],
): Promise<boolean> {
  const list = (root: Handle) => listing(overlay, root, directory, names)
  await oracle.forget()
  let before = await list(oracle.root)
  for (let attempt = 0; attempt < changingAttempts; attempt++) {
    const live = await list(overlay.root)
    if (isSame(live, before)) return true
    await oracle.forget()
    const after = await list(oracle.root)
    if (isSame(before, after)) return false
    before = after
  }
  return true
}

/** Names with their types; a name that is listed twice is there twice. */
async function listing(
  overlay: OpenOverlay,
  root: Handle,
  directory: ByteString,
  names: ByteString[],
): Promise<string[]> {
  if (names.length === 0) {
    const entries = await native.readDirectory(overlay.lane, root, directory)
    return entries.map(({ name, type }) => `${type} ${name}`)
  }
  const types = await native.listingHas(overlay.lane, root, directory, names)
  return names.map((name, index) => `${types[index]} ${name}`)
}

function isSame(one: string[], other: string[]): boolean {
  const expected = new Set(other)
  return one.length === other.length && one.every((entry) => expected.has(entry))
}

/** Null when the directory is not merged from several layers, and so lists straight from one. */
async function mergedDirectory(
  overlay: OpenOverlay,
  directory: ByteString,
): Promise<{ upperHasIt: boolean } | null> {
  const stats = await Promise.all(layerRoots(overlay).map((root) => statInLayer(overlay, root, directory)))
  const now = visible(overlay.layers, stats)
  if (now.directories < 2) return null
  return { upperHasIt: now.top?.layer.role === 'upper' }
}

/** Names for which the listing and the layers differ; null when there are none. An empty list: compare them all. */
async function suspectNames(
  overlay: OpenOverlay,
  directory: ByteString,
  names: ByteString[],
): Promise<ByteString[] | null> {
  // Many names: the whole listing is compared, which costs less than to ask every layer for each.
  if (names.length === 0 || names.length > 64) return []
  const listed = await native.listingHas(overlay.lane, overlay.root, directory, names)
  const layers: Awaited<ReturnType<typeof native.statNames>>[] = []
  for (const root of layerRoots(overlay)) {
    layers.push(await native.statNames(overlay.lane, root, directory, names))
  }
  const suspects = names.filter((_, index) => {
    const stats = layers.map((layer) => layer[index]!)
    const upper = overlay.layers[0]?.role === 'upper' ? stats[0] : null
    const top = visible(overlay.layers, stats).top?.stat ?? null
    const expected = top ?? (typeof upper === 'object' ? upper : null)
    const type = listed[index] === 0 ? 0 : listed[index]! & 0x7f
    return expectedType(expected) !== type
  })
  return suspects.length > 0 ? suspects : null
}

/** DT_* of a visible inode; 0 for none, and for a whiteout. */
function expectedType(stat: { mode: number; rdevMajor: number; rdevMinor: number } | null): number {
  if (stat === null) return 0
  const type = (stat.mode & 0o170000) >> 12
  return type === 2 && stat.rdevMajor === 0 && stat.rdevMinor === 0 ? 0 : type
}
