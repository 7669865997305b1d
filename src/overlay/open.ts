// SPDX-License-Identifier: MIT
import { type ByteString, display } from '../bytes.js'
import { isSyscallError, LowerwatchError } from '../errors.js'
import { type Handle, type Lane, native, type Stat } from '../native.js'
import { deviceOf } from './discover.js'
import { cloneOf, Opened, openLayer } from './layers.js'
import { unmappableByOptions } from './redirects.js'
import type { LayerRole, OpenLayer, OpenOverlay, OverlayDescription } from './types.js'

export { freshOverlayOf } from './fresh.js'
export { scanForRedirects } from './redirects.js'

export interface OpenOptions {
  /** Absolute paths instead of those in the mount table, which are relative for some overlays. */
  lowerdir?: ByteString[] | undefined
  upperdir?: ByteString | undefined
  dataOnly?: ByteString[] | undefined
}

/**
 * Opens an overlay and its layers. `description` of the result has the layers' paths as they were used.
 * `unmappable` says what the options tell; {@link scanForRedirects} says the rest.
 * Rejects with LAYER_UNREACHABLE, NOT_OVERLAY, NOT_PERMITTED or SyscallError; then nothing stays open.
 */
export async function openOverlay(
  given: OverlayDescription,
  options: OpenOptions = {},
): Promise<OpenOverlay> {
  const description = {
    ...given,
    lower: options.lowerdir ?? given.lower,
    dataOnly: options.dataOnly ?? given.dataOnly,
    upper: given.upper === null ? null : (options.upperdir ?? given.upper),
  }
  const lane = new native.Lane(`overlay ${description.device}`)
  const opened = new Opened(lane)
  try {
    const { mounts } = await native.listMounts(lane)
    const root = await openRoot(opened, description)
    const layers: OpenLayer[] = []
    for (const [role, path] of layersOf(description)) {
      layers.push(await openLayer(opened, description, mounts, { index: layers.length, role, path }))
    }
    const upper = layers.find(({ role }) => role === 'upper')
    if (upper !== undefined) description.upper = upper.path
    await verifyLayers(lane, description, root.handle, layers)
    return {
      description,
      lane,
      root: root.handle,
      cloneReason: root.cloneReason,
      layers,
      unmappable: unmappableByOptions(description),
      close: () => opened.close(),
    }
  } catch (error) {
    opened.close()
    throw error
  }
}

function layersOf(description: OverlayDescription): [LayerRole, ByteString][] {
  return [
    ...(description.upper === null ? [] : [['upper', description.upper] as [LayerRole, ByteString]]),
    ...description.lower.map((path): [LayerRole, ByteString] => ['lower', path]),
    ...description.dataOnly.map((path): [LayerRole, ByteString] => ['data', path]),
  ]
}

/** The first mount of the overlay that shows all of it and is not hidden below another mount. */
async function openRoot(
  opened: Opened,
  description: OverlayDescription,
): Promise<{ handle: Handle; cloneReason: string }> {
  for (const mount of description.mounts) {
    if (mount.root !== '/') continue
    const handle = await opened.path(mount.mountPoint).catch((error: unknown) => {
      if (isSyscallError(error, 'ENOENT', 'ENOTDIR', 'ESTALE')) return null
      throw error
    })
    if (handle === null) continue
    const stat = await statRoot(opened.lane, handle)
    // ESTALE: its directory in a kernfs layer is gone, but it is still this very mount if nothing else is.
    if (stat === null || deviceOf(stat) === description.device) return cloneOf(opened, handle)
    opened.release(handle)
  }
  const at = description.mounts.map(({ mountPoint }) => display(mountPoint)).join(', ')
  throw new LowerwatchError('NOT_OVERLAY', `the overlay at ${at} cannot be reached`, {
    hint: description.mounts.some(({ root }) => root === '/')
      ? 'it was unmounted, or another mount hides it'
      : 'only a part of it is mounted',
  })
}

async function statRoot(lane: Lane, handle: Handle): Promise<Stat | null> {
  try {
    return await native.statAt(lane, handle, '')
  } catch (error) {
    if (isSyscallError(error, 'ESTALE')) return null
    throw error
  }
}

/**
 * A path in the mount table says where a layer was. Where all layers share one file system the overlay's root
 * has the inode number of its upper, or else of its first lower (ovl_getattr(), 6.1 to 7.0; seen on 6.18), which
 * tells whether that path still leads to the same directory.
 */
async function verifyLayers(
  lane: Lane,
  description: OverlayDescription,
  root: Handle,
  layers: OpenLayer[],
): Promise<void> {
  const first = layers[0]
  if (first === undefined || layers.some((layer) => layer.device !== first.device)) return
  const shown = await statRoot(lane, root)
  const stat = await native.statAt(lane, first.root, '')
  if (shown === null || stat === null || shown.ino === stat.ino) return
  throw new LowerwatchError(
    'LAYER_UNREACHABLE',
    `${display(first.path)} is no longer the ${first.role} layer of the overlay at ${mountPointOf(description)}`,
    { hint: 'it was moved or replaced; mount the overlay again' },
  )
}

export function mountPointOf(description: OverlayDescription): string {
  const mount = description.mounts.find(({ root }) => root === '/') ?? description.mounts[0]
  return mount === undefined ? '(unmounted)' : display(mount.mountPoint)
}
