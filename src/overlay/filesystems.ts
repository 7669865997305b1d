// SPDX-License-Identifier: MIT
import type { ByteString } from '../bytes.js'
import type { Mount } from '../native.js'
import { parseOverlayOptions } from './options.js'

/**
 * File systems that set d_revalidate on the dentries of directories and names, so that overlayfs does too, and a
 * lookup with RESOLVE_CACHED may end in EAGAIN although something is cached. Source: `d_revalidate` in fs/ of 7.0.
 */
const revalidating = new Set([
  // kernfs
  'cgroup',
  'cgroup2',
  'sysfs',
  'resctrl',
  // network and user space
  '9p',
  'afs',
  'ceph',
  'cifs',
  'coda',
  'fuse',
  'fuseblk',
  'gfs2',
  'nfs',
  'nfs4',
  'ocfs2',
  'orangefs',
  'smb3',
  'vboxsf',
  'virtiofs',
  // names that depend on case, on another file system, on a process
  'ecryptfs',
  'exfat',
  'hfs',
  'hfsplus',
  'jfs',
  'msdos',
  'proc',
  'vfat',
])

/**
 * Whether a layer on `mount` revalidates its dentries; an overlay does when one of its own layers does, or when a
 * patched overlayfs follows them (`lower_changes`).
 */
export function revalidates(mount: Mount, mounts: Mount[], depth = 0): boolean {
  if (revalidating.has(mount.fsType) || mount.fsType.startsWith('fuse.')) return true
  // overlayfs stacks at most two deep (FILESYSTEM_MAX_STACK_DEPTH).
  if (mount.fsType !== 'overlay' || depth > 2) return false
  const { lower, dataOnly, upper, options } = parseOverlayOptions(mount.superOptions)
  if (options.some(([name, value]) => name === 'lower_changes' && value !== 'off')) return true
  return [...lower, ...dataOnly, ...(upper === null ? [] : [upper])].some((path) => {
    const below = mountOf(mounts, path)
    return below !== undefined && below.id !== mount.id && revalidates(below, mounts, depth + 1)
  })
}

/** The mount in which an absolute path without links lies: the longest mount point, the topmost of equals. */
export function mountOf(mounts: Mount[], path: ByteString): Mount | undefined {
  let found: Mount | undefined
  for (const mount of mounts) {
    if (!isBelow(path, mount.mountPoint)) continue
    if (found === undefined || mount.mountPoint.length >= found.mountPoint.length) found = mount
  }
  return found
}

function isBelow(path: ByteString, directory: ByteString): boolean {
  return directory === '/' || path === directory || path.startsWith(`${directory}/`)
}

/** `path`, which lies below `directory`, relative to it. */
export function relativeTo(path: ByteString, directory: ByteString): ByteString {
  return directory === '/' ? path.slice(1) : path.slice(directory.length + 1)
}

/** Path of something on `mount` within its file system, without a leading slash. */
export function pathInFileSystem(mount: Mount, path: ByteString): ByteString {
  const root = mount.root === '/' ? '' : mount.root.slice(1)
  const rest = relativeTo(path, mount.mountPoint)
  return root === '' ? rest : rest === '' ? root : `${root}/${rest}`
}
