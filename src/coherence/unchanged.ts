// SPDX-License-Identifier: MIT
import { constants } from 'node:fs'
import type { ByteString } from '../bytes.js'
import { isSyscallError } from '../errors.js'
import { type Handle, native } from '../native.js'
import type { OpenOverlay } from '../overlay/types.js'
import { changingAttempts } from './listing.js'

/**
 * The answer of a reading during which no layer changed `directory`; null when one did each time. Change times do not
 * tell: a change that is under way while they are asked for can leave them as they are, and unlink(2) on tmpfs does
 * (inode_set_ctime_current() in fs/inode.c, simple_unlink() in fs/libfs.c, Linux 6.13 to 7.2). So the directory is watched.
 *
 * @throws SyscallError `EACCES`, `EMFILE`, `ENOSPC` when it cannot be
 */
export async function readUnchanged<T>(
  overlay: OpenOverlay,
  directory: ByteString,
  read: () => Promise<T>,
): Promise<T | null> {
  let changed = false
  const watcher = new native.Watcher(() => {
    changed = true
  })
  const handles: Handle[] = []
  try {
    for (const { root } of overlay.layers) {
      const handle = await openDirectory(overlay, root, directory)
      if (handle === null) continue
      handles.push(handle)
      // One directory: changes below it are not of interest.
      const options = { scopes: ['inotify' as const], modifyNames: [], maxDirectories: 1 }
      await watcher.addLayer(handles.length, handle, options)
    }
    for (let attempt = 0; attempt < changingAttempts; attempt++) {
      changed = false
      const answer = await read()
      await watcher.flush()
      if (!changed) return answer
    }
    return null
  } finally {
    watcher.close()
    for (const handle of handles) handle.close()
  }
}

/** Null where the layer has no such directory. */
async function openDirectory(
  overlay: OpenOverlay,
  root: Handle,
  directory: ByteString,
): Promise<Handle | null> {
  try {
    return await native.openBeneath(overlay.lane, root, directory, constants.O_DIRECTORY)
  } catch (error) {
    if (isSyscallError(error, 'ENOENT', 'ENOTDIR', 'ELOOP')) return null
    throw error
  }
}
