// SPDX-License-Identifier: MIT
import { Oracle } from '../coherence/oracle.js'
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

  /** Drops what it pins of the overlays below. */
  async forget(): Promise<void> {
    await (await this.made)?.forget()
  }

  async close(): Promise<void> {
    const oracle = await this.made?.catch(() => null)
    this.made = null
    oracle?.close()
  }
}
