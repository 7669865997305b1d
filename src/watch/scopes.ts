// SPDX-License-Identifier: MIT
import type { LayerOptions } from '../native.js'
import type { OpenLayer, OpenOverlay } from '../overlay/types.js'

/** Directories watched one by one at most, per layer; what is beyond is looked at again from time to time. */
const maxDirectories = 1_000_000

/** A tree of up to this many directories is small: at 7 us each, armed in 30 ms. */
const smallTree = 4_096

/**
 * What to try for a layer, best first. A filesystem mark costs nothing per directory. Inode marks cost about
 * 1 KB and 7 us per directory and see nothing of the rest of the file system. inotify is what every kernel and
 * every user may have.
 */
export function layerOptions(layer: OpenLayer): LayerOptions {
  return {
    scopes: ['filesystem', 'inode', 'inotify'],
    // Controller files appear in every child in silence; the write that makes them appear is the only hint.
    modifyNames: isCgroup(layer.fsType) ? ['cgroup.subtree_control'] : [],
    maxDirectories,
  }
}

/** For a small tree on a busy file system. */
export function narrowOptions(layer: OpenLayer): LayerOptions {
  return { ...layerOptions(layer), scopes: ['inode', 'inotify'], maxDirectories: smallTree }
}

/**
 * File systems that revalidate by themselves can hang, and the reader thread serves all overlays: not there.
 *
 * @param share - Of wall time, for refreshes of this overlay
 */
export function reflexOf(overlay: OpenOverlay, share: number): Pick<LayerOptions, 'reflex'> {
  // A patched overlayfs is told, by directory; it drops nothing.
  const told = overlay.description.options.some(([name]) => name === 'lower_changes')
  if (told || overlay.layers.some((layer) => layer.revalidates)) return {}
  const watched = overlay.layers.filter((layer) => layer.role !== 'upper').length
  const upper = overlay.layers.find((layer) => layer.role === 'upper')?.root ?? null
  return { reflex: { overlay: overlay.root, upper, share: share / watched } }
}

export function isCgroup(fsType: string): boolean {
  return fsType === 'cgroup2' || fsType === 'cgroup'
}

/** kernfs makes and removes nodes without any event (up to 7.2): such a layer is also looked at from time to time. */
export function isKernfs(fsType: string): boolean {
  return isCgroup(fsType) || fsType === 'sysfs'
}
