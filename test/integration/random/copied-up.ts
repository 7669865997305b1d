// SPDX-License-Identifier: MIT
import { type ByteString, join } from '../../../src/bytes.js'
import { decodeOrigin } from '../../../src/coherence/overlay-handle.js'
import { type FileHandle, type Handle, type Lane, native } from '../../../src/native.js'
import { requiredOptions } from '../fixture/lowers.js'
import type { Overlay } from '../fixture/overlay.js'

const directoryType = 4
const originXattr = requiredOptions.includes('userxattr') ? 'user.overlay.origin' : 'trusted.overlay.origin'

/**
 * Paths that overlayfs gets wrong on a fresh mount, too: a lower file that was copied up and is then renamed (or
 * linked) in the lower shares its overlay inode with the copy, by the origin that the copy remembers. Which of the
 * two names is right depends on which was looked up first (measured on 6.18), so live and fresh may differ.
 */
export async function sharesCopiedUpInode(overlay: Overlay, path: ByteString): Promise<boolean> {
  const lane = new native.Lane('origins')
  const open = (directory: string) => native.openTree(lane, directory, { clone: false })
  const roots: Handle[] = []
  try {
    const upper = await open(overlay.upper!)
    roots.push(upper)
    const origins = new Map<ByteString, { file: ByteString; origin: FileHandle }>()
    for (const file of await filesBelow(lane, upper, '')) {
      const value = await native.getXattr(lane, upper, file, originXattr)
      const origin = value === null ? null : decodeOrigin(value)
      if (origin !== null) origins.set(origin.real.bytes, { file, origin: origin.real })
    }
    const own = [...origins.values()].find(({ file }) => file === path)?.origin
    let moved = false
    for (const lower of overlay.lowers) {
      const root = await open(lower)
      roots.push(root)
      const handle = await native.handleAt(lane, root, path).catch(() => null)
      const copy = handle === null ? undefined : origins.get(handle.bytes)
      if (copy !== undefined && copy.file !== path) return true
      // Still where it was: nothing was renamed.
      if (own !== undefined && handle?.bytes === own.bytes) return false
      if (own !== undefined && !moved) {
        const inode = await native.openByHandle(lane, root, own)
        moved = inode !== null && (await native.statAt(lane, inode, ''))!.nlink > 0
        inode?.close()
      }
    }
    return moved
  } finally {
    for (const root of roots) root.close()
    lane.close()
  }
}

async function filesBelow(lane: Lane, root: Handle, directory: ByteString): Promise<ByteString[]> {
  const files: ByteString[] = []
  for (const { name, type } of await native.readDirectory(lane, root, directory)) {
    const path = join(directory, name)
    if (type === directoryType) files.push(...(await filesBelow(lane, root, path)))
    else files.push(path)
  }
  return files
}
