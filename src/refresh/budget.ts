// SPDX-License-Identifier: MIT

/** Credit that an overlay may save up while nothing changes, in milliseconds of refreshing. */
const burstMs = 20

/**
 * Keeps the time spent refreshing one overlay below a share of wall time. The first refresh after quiet is
 * served at once; what comes too fast waits, and merges while it waits.
 */
export class Budget {
  private creditMs = burstMs
  private updatedAt = performance.now()

  /** @param share - Of wall time, 0 to 1. */
  constructor(private readonly share: number) {}

  /** Milliseconds until the next refresh may start; 0 when it may start now. */
  waitMs(): number {
    this.accrue()
    return this.creditMs > 0 ? 0 : Math.ceil(-this.creditMs / this.share) + 1
  }

  charge(spentMs: number): void {
    this.accrue()
    this.creditMs -= spentMs
  }

  private accrue(): void {
    const now = performance.now()
    this.creditMs = Math.min(burstMs, this.creditMs + (now - this.updatedAt) * this.share)
    this.updatedAt = now
  }
}
