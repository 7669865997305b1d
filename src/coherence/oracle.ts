// SPDX-License-Identifier: MIT
import { type ByteString, display } from '../bytes.js'
import { isSyscallError, LowerwatchError } from '../errors.js'
import { type Handle, native, type Stat } from '../native.js'
import { freshOverlayOf } from '../overlay/fresh.js'
import type { OpenLayer, OpenOverlay } from '../overlay/types.js'

const mountAttrReadOnly = 0x1
const mountAttrNoExec = 0x8

/**
 * What the overlay should show: a second, read-only overlay of the same layers, mounted detached, with the upper
 * layer as its topmost lower. It reads whiteouts, opaque directories, redirects and metacopy like the live one.
 *
 * What is *not* the same in both (measured on 6.18): st_dev, always; st_ino of directories unless all layers are on
 * one file system; st_ino of what was copied up (the live overlay shows the origin's, the oracle the upper's);
 * W_OK (the oracle is read-only). See identity.ts for what is compared instead.
 */
export class Oracle {
  readonly #overlay: OpenOverlay
  #root: Handle
  #rootStat: Stat | null
  #lowers: Handle | null = null

  private constructor(overlay: OpenOverlay, root: Handle, rootStat: Stat | null) {
    this.#overlay = overlay
    this.#root = root
    this.#rootStat = rootStat
  }

  /** @throws LowerwatchError LAYER_UNREACHABLE or NOT_PERMITTED. */
  static async create(overlay: OpenOverlay): Promise<Oracle> {
    const root = await mountLowers(overlay, merged(overlay))
    try {
      return new Oracle(overlay, root, await native.statAt(overlay.lane, root, ''))
    } catch (error) {
      root.close()
      throw error
    }
  }

  /** Root of the fresh overlay. Do not keep it across {@link forget}. */
  get root(): Handle {
    return this.#root
  }

  /** Makes it answer afresh: everything it has cached is dropped. */
  async forget(): Promise<void> {
    const { lane } = this.#overlay
    // The root's dentry survives every shrink, and with it the mode and owner that were copied when it was mounted.
    const now = await native.statAt(lane, this.#root, '')
    if (this.#rootStat === null || now === null || now.ctimeNs !== this.#rootStat.ctimeNs) {
      const root = await mountLowers(this.#overlay, merged(this.#overlay))
      this.#root.close()
      this.#root = root
      this.#rootStat = await native.statAt(lane, root, '')
    } else {
      await native.reconfigure(lane, this.#root, { readOnly: true })
    }
    if (this.#lowers !== null && this.#lowers !== singleLower(this.#overlay)?.root)
      await native.reconfigure(lane, this.#lowers, { readOnly: true })
  }

  /**
   * The lower layers without the upper: what a copied-up directory should be merged with. With one lower layer it
   * is that layer itself, because overlayfs takes no overlay of one.
   */
  async lowers(): Promise<Handle | null> {
    if (this.#lowers === null) {
      const single = singleLower(this.#overlay)
      this.#lowers = single !== null ? single.root : await mountLowers(this.#overlay, lowersOf(this.#overlay))
    }
    return this.#lowers
  }

  /** Whether {@link lowers} is an overlay, so that its handles are overlay handles. */
  get lowersAreOverlay(): boolean {
    return singleLower(this.#overlay) === null
  }

  close(): void {
    this.#root.close()
    // A single lower layer is the overlay's own handle.
    if (this.#lowers !== singleLower(this.#overlay)?.root) this.#lowers?.close()
    this.#lowers = null
  }
}

function merged(overlay: OpenOverlay): OpenLayer[] {
  return overlay.layers.filter((layer) => layer.role !== 'data')
}

function lowersOf(overlay: OpenOverlay): OpenLayer[] {
  return overlay.layers.filter((layer) => layer.role === 'lower')
}

function singleLower(overlay: OpenOverlay): OpenLayer | null {
  const lowers = lowersOf(overlay)
  return lowers.length === 1 ? lowers[0]! : null
}

/** A fresh read-only overlay of `layers`, uppermost first, with the data-only layers of `overlay` below them. */
export async function mountLowers(overlay: OpenOverlay, layers: OpenLayer[]): Promise<Handle> {
  const data = overlay.layers.filter((layer) => layer.role === 'data')
  const { options } = freshOverlayOf(overlay, 'oracle')
  const noExec = overlay.description.mounts.some((mount) => mount.mountOptions.split(',').includes('noexec'))
  const mount = (path: (layer: OpenLayer) => ByteString) =>
    native.freshOverlay(overlay.lane, {
      lower: layers.map(path),
      dataOnly: data.map(path),
      upper: null,
      options,
      mountAttributes: mountAttrReadOnly | (noExec ? mountAttrNoExec : 0),
      readOnly: true,
    })
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
