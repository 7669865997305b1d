// SPDX-License-Identifier: MIT
import type { ByteString } from '../bytes.js'
import { native } from '../native.js'
import type { OpenOverlay } from '../overlay/types.js'

/**
 * Rung "invalidate", on `lower_changes=manual` of a patched overlayfs: what is cached of these directories is verified
 * by the kernel before it is used again, held directories and listings too. Nothing is dropped.
 *
 * @param directories - Null: the whole overlay
 * @returns milliseconds
 * @throws SyscallError, for example EPERM without CAP_SYS_ADMIN over the mount's user namespace
 */
export async function invalidate(overlay: OpenOverlay, directories: ByteString[] | null): Promise<number> {
  const startedAt = performance.now()
  const options = { subtree: directories === null }
  await native.invalidate(overlay.lane, overlay.root, directories ?? [''], options)
  return performance.now() - startedAt
}
