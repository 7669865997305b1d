// SPDX-License-Identifier: MIT

/** Refreshes whose latency is remembered for percentiles. */
const remembered = 2_048

export interface LatencySummary {
  count: number
  p50: number
  p90: number
  p99: number
  max: number
}

/** Counters of one overlay since the daemon began to watch it. */
export class RefreshStatistics {
  /** Names and directories that changed in lower layers. */
  changes = 0
  /** Rounds in which something cached was stale. */
  refreshes = 0
  /** Rounds in which nothing cached was stale. */
  refreshesAvoided = 0
  nudges = 0
  swaps = 0
  cacheDrops = 0
  refreshTimeMs = 0
  private readonly latencies: number[] = []
  private next = 0
  private count = 0

  /** @param latencyMs - From reading the event to the end of the refresh. */
  addLatency(latencyMs: number): void {
    this.latencies[this.next] = latencyMs
    this.next = (this.next + 1) % remembered
    this.count++
  }

  /** Milliseconds, of the last 2,048 refreshes. */
  latency(): LatencySummary {
    const sorted = [...this.latencies].sort((a, b) => a - b)
    const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0
    return { count: this.count, p50: at(0.5), p90: at(0.9), p99: at(0.99), max: sorted.at(-1) ?? 0 }
  }
}
