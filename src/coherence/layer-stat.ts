// SPDX-License-Identifier: MIT
import type { ByteString } from '../bytes.js'
import { isSyscallError } from '../errors.js'
import { type Handle, native, type Stat } from '../native.js'
import type { OpenOverlay } from '../overlay/types.js'

/** What a layer has at `path`. Where a symbolic link is on the way (ELOOP) overlayfs finds nothing either. */
export async function statInLayer(
  overlay: OpenOverlay,
  root: Handle,
  path: ByteString,
): Promise<Stat | null> {
  try {
    return await native.statAt(overlay.lane, root, path)
  } catch (error) {
    if (isSyscallError(error, 'ELOOP')) return null
    throw error
  }
}
