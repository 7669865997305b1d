// SPDX-License-Identifier: MIT
import { Oracle } from '../coherence/oracle.js'
import { isSyscallError, LowerwatchError } from '../errors.js'
import type { OpenOverlay } from '../overlay/types.js'

/** The fresh mount that one overlay is compared with, made when it is first needed. */
export class Fresh {
  private made: Promise<Oracle> | null = null

  constructor(private readonly overlay: OpenOverlay) {}

  /** Made anew by the next call when it failed. */
  readonly oracle = (): Promise<Oracle> => {
    this.made ??= Oracle.create(this.overlay).catch((error) => {
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
      if (!isSyscallError(error) && !(error instanceof LowerwatchError)) throw error
      await this.close()
    }
  }

  async close(): Promise<void> {
    const oracle = await this.made?.catch(() => null)
    this.made = null
    oracle?.close()
  }
}
