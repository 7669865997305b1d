// SPDX-License-Identifier: MIT
import { isSyscallError } from '../errors.js'
import { native } from '../native.js'
import type { OpenOverlay } from '../overlay/types.js'

/**
 * Rung "remount": FSCONFIG_CMD_RECONFIGURE without a single option, which drops every unpinned dentry of that
 * one overlay (fs/super.c, reconfigure_super: shrink_dcache_sb) and changes nothing else.
 *
 * @param above - Overlays that have it as a layer, topmost first: what they have cached pins what it has
 * @returns nanoseconds spent in the kernel
 * @throws SyscallError, for example EPERM without CAP_SYS_ADMIN over the mount's user namespace
 */
export async function remount(overlay: OpenOverlay, above: OpenOverlay[] = []): Promise<number> {
  const overlays = [...above, overlay].map(({ root, description }) => ({
    overlay: root,
    readOnly: description.upper === null,
  }))
  try {
    return await native.reconfigure(overlay.lane, overlays)
  } catch (error) {
    // Frozen (fsfreeze(8)): the cache has not been touched. The caller tries again, as with any other failure.
    if (isSyscallError(error, 'EBUSY')) return native.reconfigure(overlay.lane, overlays)
    throw error
  }
}
