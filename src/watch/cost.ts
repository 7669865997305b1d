// SPDX-License-Identifier: MIT
import type { WatcherCounters } from '../native.js'

const intervalMs = 2_000
/** More than this share of one processor for events of other trees is too much. */
const cpuShare = 0.01
const outsideShare = 0.9

/** Measures what the reader thread costs, and asks for a narrower scope when it pays for other trees' events. */
export class WatchCost {
  private last: WatcherCounters
  private lastAt = performance.now()
  private readonly timer: NodeJS.Timeout
  private busy = false

  constructor(
    private readonly counters: () => WatcherCounters,
    private readonly narrow: (reason: string) => Promise<void>,
  ) {
    this.last = counters()
    this.timer = setInterval(() => void this.measure(), intervalMs)
    this.timer.unref()
  }

  close(): void {
    clearInterval(this.timer)
  }

  private async measure(): Promise<void> {
    const now = this.counters()
    const elapsedMs = performance.now() - this.lastAt
    const share = (now.readerCpuNs - this.last.readerCpuNs) / 1e6 / elapsedMs
    const events = now.eventsRead - this.last.eventsRead
    const outside = now.eventsOutside - this.last.eventsOutside
    this.last = now
    this.lastAt = performance.now()
    if (this.busy || events === 0 || share < cpuShare || outside / events < outsideShare) return
    this.busy = true
    const percent = (share * 100).toFixed(1)
    await this.narrow(`${percent} % of a processor went to ${outside} events of other trees`).catch(() => {})
    this.busy = false
  }
}
