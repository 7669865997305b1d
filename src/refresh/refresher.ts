// SPDX-License-Identifier: MIT
import type { ByteString } from '../bytes.js'
import { isSyscallError } from '../errors.js'
import { native } from '../native.js'
import type { OpenOverlay } from '../overlay/types.js'
import { Budget } from './budget.js'
import { invalidate } from './invalidate.js'
import { lowerChangesMode } from './lower-changes.js'
import type { RefreshPolicy } from './policy.js'
import { remount } from './remount.js'
import type { RefreshStatistics } from './statistics.js'

export interface RefresherEvents {
  /** Overlays that have this one as a layer, topmost first: they pin its dentries, and must forget them as well. */
  above(): Promise<OpenOverlay[]>
  /** What nothing pins has been dropped. */
  refreshed(): void
  sayOnce(level: 'info' | 'warn', message: string): void
}

/** The rungs that make names go away, within the budget: invalidate or remount, else drop-caches where allowed. */
export class Refresher {
  /** Rung "invalidate". */
  readonly byInvalidation: boolean
  private readonly budget: Budget

  constructor(
    private readonly overlay: OpenOverlay,
    private readonly policy: RefreshPolicy,
    private readonly statistics: RefreshStatistics,
    private readonly events: RefresherEvents,
  ) {
    this.byInvalidation = lowerChangesMode(overlay.description) === 'manual'
    this.budget = new Budget(policy.refreshShare)
  }

  /**
   * Waits for its turn. Changes merge meanwhile.
   *
   * @param changed - The directories that matter to the rung invalidate; null: all
   */
  async refresh(changed: ByteString[] | null = null): Promise<void> {
    const waitMs = this.budget.waitMs()
    if (waitMs > 0) await new Promise((resolve) => setTimeout(resolve, waitMs))
    this.statistics.refreshes++
    try {
      await this.forget(changed)
    } catch (error) {
      if (!this.policy.dropCaches || !isSyscallError(error)) throw error
      this.events.sayOnce('warn', `rung remount failed (${error.message}), falling to drop-caches`)
      this.statistics.cacheDrops++
      const startedAt = performance.now()
      await native.dropCaches(this.overlay.lane)
      this.charge(performance.now() - startedAt)
    }
  }

  /** The same at once, and no further rung. */
  async forget(changed: ByteString[] | null): Promise<void> {
    if (!this.byInvalidation) return this.remount()
    for (const other of await this.events.above()) this.charge((await remount(other)) / 1e6)
    this.charge(await invalidate(this.overlay, changed))
    this.events.refreshed()
  }

  /** Drops all that nothing pins, whatever the mode of the mount. */
  async remount(): Promise<void> {
    this.charge((await remount(this.overlay, await this.events.above())) / 1e6)
    this.events.refreshed()
  }

  /** Milliseconds of refreshing, also by others on behalf of this overlay. */
  charge(spentMs: number): void {
    this.statistics.refreshTimeMs += spentMs
    this.budget.charge(spentMs)
  }
}
