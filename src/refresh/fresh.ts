// SPDX-License-Identifier: MIT
import { mountAlike } from '../coherence/fresh-mount.js'
import { mountMerged, Oracle } from '../coherence/oracle.js'
import { isSyscallError, LowerwatchError } from '../errors.js'
import type { Handle } from '../native.js'
import type { OpenOverlay } from '../overlay/types.js'

/** The fresh mount that one overlay is compared with, made when it is first needed. */
export class Fresh {
  private made: Promise<Oracle> | null = null
  /** Why it cannot take the place of the overlay. */
  notAlike = ''

  /** @param maySwap - Then it is to be one that can take the place of the overlay */
  constructor(
    private readonly overlay: OpenOverlay,
    private readonly maySwap: boolean,
  ) {}

  /** Made anew by the next call when it failed. */
  readonly oracle = (): Promise<Oracle> => {
    const mount = this.maySwap ? () => this.mountAlike() : undefined
    this.made ??= Oracle.create(this.overlay, mount).catch((error) => {
      this.made = null
      throw error
    })
    return this.made
  }

  /** Drops what it pins of the overlays below, with the mount itself when nothing else helps. */
  async forget(): Promise<void> {
    try {
      await (await this.made?.catch(() => null))?.forget()
    } catch (error) {
      if (!isExpected(error)) throw error
      await this.close()
    }
  }

  async close(): Promise<void> {
    const oracle = await this.made?.catch(() => null)
    this.made = null
    oracle?.close()
  }

  private async mountAlike(): Promise<Handle> {
    this.notAlike = ''
    try {
      return await mountAlike(this.overlay)
    } catch (error) {
      if (!isExpected(error)) throw error
      this.notAlike = error.message
      return mountMerged(this.overlay)
    }
  }
}

function isExpected(error: unknown): error is Error {
  return isSyscallError(error) || error instanceof LowerwatchError
}
