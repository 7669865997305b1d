// SPDX-License-Identifier: MIT
import { type Handle, native, type Stat } from '../native.js'
import type { OpenLayer, OpenOverlay } from '../overlay/types.js'
import { mountLowers } from './fresh-mount.js'

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
  readonly #mount: () => Promise<Handle>
  #root: Handle
  #rootStat: Stat | null
  #lowers: Handle | null = null

  private constructor(
    overlay: OpenOverlay,
    mount: () => Promise<Handle>,
    root: Handle,
    rootStat: Stat | null,
  ) {
    this.#overlay = overlay
    this.#mount = mount
    this.#root = root
    this.#rootStat = rootStat
  }

  /**
   * @param mount - Makes the fresh mount, each time that it must be another one
   * @throws LowerwatchError LAYER_UNREACHABLE or NOT_PERMITTED.
   */
  static async create(overlay: OpenOverlay, mount = () => mountMerged(overlay)): Promise<Oracle> {
    const root = await mount()
    try {
      return new Oracle(overlay, mount, root, await native.statAt(overlay.lane, root, ''))
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
      const root = await this.#mount()
      this.#root.close()
      this.#root = root
      // Of before the mount: what changed since is seen the next time.
      this.#rootStat = now
    } else {
      await native.reconfigure(lane, [{ overlay: this.#root, readOnly: true }])
    }
    if (this.#lowers !== null && this.#lowers !== singleLower(this.#overlay)?.root)
      await native.reconfigure(lane, [{ overlay: this.#lowers, readOnly: true }])
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

/** All layers merged, the upper as the topmost lower. */
export function mountMerged(overlay: OpenOverlay): Promise<Handle> {
  const merged = overlay.layers.filter((layer) => layer.role !== 'data')
  return mountLowers(overlay, merged)
}

function lowersOf(overlay: OpenOverlay): OpenLayer[] {
  return overlay.layers.filter((layer) => layer.role === 'lower')
}

function singleLower(overlay: OpenOverlay): OpenLayer | null {
  const lowers = lowersOf(overlay)
  return lowers.length === 1 ? lowers[0]! : null
}
