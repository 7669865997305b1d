// SPDX-License-Identifier: MIT
import { type ByteString, display } from '../bytes.js'
import { isSyscallError, LowerwatchError } from '../errors.js'
import { type Handle, native } from '../native.js'
import { freshOverlayOf } from '../overlay/fresh.js'
import type { OpenLayer, OpenOverlay } from '../overlay/types.js'

const mountAttrReadOnly = 0x1
const mountAttrNoExec = 0x8

/** A fresh read-only overlay of `layers`, uppermost first, with the data-only layers of `overlay` below them. */
export async function mountLowers(overlay: OpenOverlay, layers: OpenLayer[]): Promise<Handle> {
  const data = overlay.layers.filter((layer) => layer.role === 'data')
  const { options } = freshOverlayOf(overlay, 'oracle')
  const noExec = overlay.description.mounts.some((mount) => mount.mountOptions.split(',').includes('noexec'))
  const mount = async (path: (layer: OpenLayer) => ByteString): Promise<Handle> => {
    const description = {
      lower: layers.map(path),
      dataOnly: data.map(path),
      upper: null,
      options,
      mountAttributes: mountAttrReadOnly | (noExec ? mountAttrNoExec : 0),
      readOnly: true,
    }
    try {
      return await native.freshOverlay(overlay.lane, description)
    } catch (error) {
      // In a user namespace nobody may say redirect_dir, and yet the kernel prints what it uses without being told.
      const unsaid = options.filter(([name]) => name !== 'redirect_dir')
      if (!isSyscallError(error, 'EPERM') || unsaid.length === options.length) throw error
      return await native.freshOverlay(overlay.lane, { ...description, options: unsaid })
    }
  }
  try {
    // The open layers themselves: no path of theirs can have been exchanged meanwhile. Until 6.14 overlayfs
    // refuses a detached mount as a layer (EINVAL).
    return await mount((layer) => `/proc/self/fd/${layer.root.fd}`)
  } catch (error) {
    if (!isSyscallError(error, 'EINVAL')) throw refused(error)
  }
  for (const layer of [...layers, ...data]) await samePlace(overlay, layer)
  try {
    return await mount((layer) => layer.path)
  } catch (error) {
    throw refused(error)
  }
}

/** A detached overlay that can take the place of `overlay`, which has no upper: by the same paths, with the same flags. */
export async function mountAlike(overlay: OpenOverlay): Promise<Handle> {
  const expected = (['lower', 'data'] as const).flatMap((wanted) =>
    overlay.layers.filter(({ role }) => role === wanted).map(({ root }) => root),
  )
  try {
    return await native.freshOverlay(overlay.lane, { ...freshOverlayOf(overlay, 'swap'), expected })
  } catch (error) {
    if (!isSyscallError(error, 'ESTALE', 'ENOENT', 'ENOTDIR')) throw refused(error)
    throw new LowerwatchError('LAYER_UNREACHABLE', 'a layer is no longer at its path', { cause: error })
  }
}

/** The path still leads to the directory that is the layer. */
async function samePlace(overlay: OpenOverlay, layer: OpenLayer): Promise<void> {
  let there: Handle | null = null
  try {
    there = await native.openTree(overlay.lane, layer.path, { clone: false })
    const [a, b] = [
      await native.statAt(overlay.lane, there, ''),
      await native.statAt(overlay.lane, layer.root, ''),
    ]
    if (a !== null && b !== null && a.ino === b.ino && a.devMajor === b.devMajor && a.devMinor === b.devMinor)
      return
  } catch (error) {
    if (!isSyscallError(error)) throw error
  } finally {
    there?.close()
  }
  throw new LowerwatchError('LAYER_UNREACHABLE', `layer ${display(layer.path)} is no longer at its path`, {
    hint: 'mount the overlay anew, or use Linux 6.15, which needs no path',
  })
}

function refused(error: unknown): unknown {
  if (isSyscallError(error, 'EPERM', 'EACCES'))
    return new LowerwatchError('NOT_PERMITTED', 'not permitted to mount a fresh overlay to compare with', {
      hint: 'run as root, or in the user namespace that owns the mount',
      cause: error,
    })
  return error
}
