// SPDX-License-Identifier: MIT
import type { ByteString } from '../bytes.js'
import type { FreshOverlay } from '../native.js'
import type { OpenLayer, OpenOverlay, OverlayDescription } from './types.js'

/** Options that need an upper: a mount without one refuses or drops them. Seen on 6.18; fs/overlayfs/params.c. */
const needUpper = new Set(['index', 'nfs_export', 'volatile', 'fsync'])
/** Printed by the security module or the VFS, and no option to give. */
const notGiven = new Set(['seclabel', 'sync', 'dirsync', 'mand', 'lazytime'])

const MOUNT_ATTR_RDONLY = 0x01
const mountAttributes: Record<string, number> = {
  nosuid: 0x02,
  nodev: 0x04,
  noexec: 0x08,
  noatime: 0x10,
  strictatime: 0x20,
  nodiratime: 0x80,
  nosymfollow: 0x200000,
}

/**
 * What to mount for a second overlay of the same layers, without an upper in both cases:
 * - `oracle`: shows what the overlay should show. The upper is its topmost lower layer.
 * - `swap`: takes the place of an overlay that has no upper, with the flags of its mount `mountOptions`.
 */
export function freshOverlayOf(
  overlay: OverlayDescription | OpenOverlay,
  purpose: 'oracle' | 'swap' = 'oracle',
  mountOptions?: string,
): FreshOverlay {
  const description = 'description' in overlay ? overlay.description : overlay
  const lower = layerPaths(overlay, 'lower', description.lower)
  if (purpose === 'oracle' && description.upper !== null) {
    lower.unshift(...layerPaths(overlay, 'upper', [description.upper]))
  }
  const mount = description.mounts.find(({ root }) => root === '/') ?? description.mounts[0]
  const flags = purpose === 'swap' ? (mountOptions ?? mount?.mountOptions ?? '') : ''
  // What was switched on is to be off again when the other one is gone.
  const switched = 'switchedTo' in overlay && overlay.switchedTo !== undefined
  const options = description.options.filter(
    // What is looked at once needs to follow nothing.
    ([name, value]) =>
      isLegal(name, value) && (name !== 'lower_changes' || (purpose === 'swap' && !switched)),
  )
  if (purpose === 'swap' && switched) options.push(['lower_changes', 'off'])
  return {
    lower,
    dataOnly: layerPaths(overlay, 'data', description.dataOnly),
    upper: null,
    options,
    mountAttributes: purpose === 'swap' ? attributesOf(flags) : MOUNT_ATTR_RDONLY,
    readOnly: true,
  }
}

/** A layer that a younger mount hides is reached by its descriptor; every other one by its path, which stays readable in the mount table. */
function layerPaths(
  overlay: OverlayDescription | OpenOverlay,
  role: OpenLayer['role'],
  paths: ByteString[],
): ByteString[] {
  if (!('layers' in overlay)) return [...paths]
  return overlay.layers
    .filter((layer) => layer.role === role)
    .map((layer) => (layer.covered === true ? `/proc/self/fd/${layer.root.fd}` : layer.path))
}

function isLegal(name: string, value: string | null): boolean {
  if (needUpper.has(name) || notGiven.has(name)) return false
  // Without an upper there is nowhere to store an id.
  return name !== 'uuid' || value === 'null' || value === 'off'
}

/** MOUNT_ATTR_* bits of fsmount(2) for the per-mount options of the mount table. */
function attributesOf(options: string): number {
  let bits = 0
  for (const option of options.split(',')) {
    bits |= option === 'ro' ? MOUNT_ATTR_RDONLY : (mountAttributes[option] ?? 0)
  }
  // The table prints nothing for strictatime: it is what is left when there is no other.
  return /\b(relatime|noatime)\b/.test(options) ? bits : bits | mountAttributes.strictatime!
}
