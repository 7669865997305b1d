// SPDX-License-Identifier: MIT
import { type ByteString, display, join } from '../bytes.js'
import { isDirectory, modeType } from '../coherence/identity.js'
import { isSyscallError } from '../errors.js'
import { native, type Stat } from '../native.js'
import type { OpenLayer, OpenOverlay } from '../overlay/types.js'
import { Archive, Refusal } from './vanish-archive.js'
import { isGone, layersOfOrigin, originOf, xattrPrefix } from './vanish-origin.js'

/** What happens to the upper's copy of a directory that vanished from its lower layer. */
export type VanishPolicy = 'keep' | 'archive' | 'prune'

export interface VanishOptions {
  /** Change nothing; the result says what would be done. */
  dryRun: boolean
  /** Called with one line per path that goes, and with the reason when nothing is done. */
  log: (message: string) => void
}

export interface VanishResult {
  /** The upper was changed behind the overlay: its caches must be refreshed. */
  changed: boolean
  /** Why nothing was (or, dry, would be) done, or why not all could be removed; '' otherwise. */
  reason: string
  /** Where the copy is now, relative to the parent of the upper; null when it is nowhere. */
  archivedTo: ByteString | null
  /** What went, or would go: paths in the overlay. */
  paths: ByteString[]
}

/**
 * Applies the policy to `directory`/`name`, of which an event said that a lower layer lost it. It acts only when no
 * lower layer has the name any more, and the upper has a directory by that name which was copied up from (or merged
 * with) a directory of one of these lower layers that no longer exists. Everything in the upper's directory goes
 * with it, also what users added.
 *
 * The upper's directory is renamed out of the upper tree in one step, not removed through the overlay. Removing
 * there was measured (6.18): where the lower directory came back meanwhile it leaves a whiteout, which would hide
 * that one for ever; and a stale merge answers ESTALE or an empty listing, so that nothing is removed at all.
 */
export async function applyVanish(
  policy: VanishPolicy,
  overlay: OpenOverlay,
  directory: ByteString,
  name: ByteString,
  options: VanishOptions,
): Promise<VanishResult> {
  if (policy === 'keep') return nothing('')
  const path = join(directory, name)
  const leave = (reason: string): VanishResult => {
    options.log(`on-vanish ${policy}: left alone ${display(path)}: ${reason}`)
    return nothing(reason)
  }
  const upper = overlay.layers.find((layer) => layer.role === 'upper')
  if (upper === undefined) return nothing('the overlay has no upper layer')
  let archive: Archive | null = null
  try {
    const copy = await upperCopy(overlay, upper, path)
    if (typeof copy === 'string') return copy === '' ? nothing('') : leave(copy)
    const refusal = await refuse(overlay, upper, path)
    if (refusal !== '') return leave(refusal)
    archive = await Archive.open(overlay, upper, policy)
    const paths = await archive.contents(path)
    for (const gone of paths)
      options.log(`on-vanish ${policy}${options.dryRun ? ' (dry run)' : ''}: ${display(gone)}`)
    if (options.dryRun) return { changed: false, reason: '', archivedTo: null, paths }
    // Once more, after all that took time; what remains is closed by taking it back.
    const again = await refuse(overlay, upper, path)
    if (again !== '') return leave(again)
    const { archivedTo, leftover } = await archive.take(path, copy)
    if (leftover !== '') options.log(`on-vanish ${policy}: ${leftover}`)
    return { changed: true, reason: leftover, archivedTo, paths }
  } catch (error) {
    if (isSyscallError(error) || error instanceof Refusal) return leave(error.message)
    throw error
  } finally {
    archive?.close()
  }
}

function nothing(reason: string): VanishResult {
  return { changed: false, reason, archivedTo: null, paths: [] }
}

/** The upper's own directory; the reason when there is none, '' when that is nothing to speak of. */
async function upperCopy(overlay: OpenOverlay, upper: OpenLayer, path: ByteString): Promise<Stat | string> {
  const stat = await native.statAt(overlay.lane, upper.root, path)
  if (stat === null) return ''
  return isDirectory(stat) ? stat : ''
}

/** Why the upper's directory must stay; '' when it may go. */
async function refuse(overlay: OpenOverlay, upper: OpenLayer, path: ByteString): Promise<string> {
  if (overlay.unmappable !== '') return `names cannot be mapped: ${overlay.unmappable}`
  for (const layer of overlay.layers) {
    if (layer.role !== 'lower') continue
    const stat = await native.statAt(overlay.lane, layer.root, path)
    if (stat !== null && !isWhiteout(stat)) return `${display(layer.path)} has something by that name`
  }
  const prefix = xattrPrefix(overlay)
  for (const name of ['opaque', 'redirect'])
    if ((await native.getXattr(overlay.lane, upper.root, path, prefix + name)) !== null)
      return `the upper directory is marked ${name}`
  const origin = await originOf(overlay, upper, path)
  if (origin === null || origin.upper) return 'the upper directory has no record of where it came from'
  const layers = await layersOfOrigin(overlay, origin)
  if (layers.length === 0) return 'the upper directory came from no lower layer of this overlay'
  for (const layer of layers)
    if (!(await isGone(overlay, layer, origin)))
      return `the directory it came from still exists in ${display(layer.path)}`
  return mountedBelow(overlay, upper, path)
}

/** A rename would take mounts along, and removing would detach them. */
async function mountedBelow(overlay: OpenOverlay, upper: OpenLayer, path: ByteString): Promise<string> {
  const places = [
    `${upper.path}/${path}`,
    ...overlay.description.mounts
      .filter(({ root }) => root === '/')
      .map(({ mountPoint }) => `${mountPoint === '/' ? '' : mountPoint}/${path}`),
  ]
  const { mounts } = await native.listMounts(overlay.lane)
  const inside = mounts.find(({ mountPoint }) =>
    places.some((place) => mountPoint === place || mountPoint.startsWith(`${place}/`)),
  )
  return inside === undefined ? '' : `${inside.fsType} is mounted at ${display(inside.mountPoint)}`
}

function isWhiteout(stat: Stat): boolean {
  return (stat.mode & modeType) === 0o020000 && stat.rdevMajor === 0 && stat.rdevMinor === 0
}
