// SPDX-License-Identifier: MIT
import type { Scope, WatcherCounters } from '../native.js'
import type { Holder, LayerRole, StaleKind } from '../overlay/types.js'

/** A byte string in JSON: text where it is UTF-8, else its bytes; see toJson() in bytes.ts. */
export type JsonBytes = string | { base64: string }

/** What `lowerwatch status --json` prints, and the daemon answers on its control socket. */
export interface DaemonStatus {
  version: string
  pid: number
  /** ISO 8601. */
  startedAt: string
  /** Release of the running kernel, for example `6.18.44`. */
  kernel: string
  overlays: OverlayStatus[]
  watcher: WatcherCounters
  mountWatch: { source: 'fanotify' | 'poll'; reason: string }
}

export interface OverlayStatus {
  /** `major:minor` of the superblock. */
  device: string
  mountPoints: JsonBytes[]
  layers: LayerStatus[]
  /** Why names of the layers cannot be mapped to names of the overlay; '' when they can. */
  unmappable: string
  /** The rung of the ladder that serves this overlay. */
  rung: string
  /** Why each better rung is not used. */
  rungReasons: string[]
  changes: number
  refreshes: number
  /** Changes that needed none, because nothing stale was cached. */
  refreshesAvoided: number
  nudges: number
  swaps: number
  refreshTimeMs: number
  /** From the read of an event to the verified refresh. */
  latencyMs: { p50: number; p90: number; p99: number; max: number; count: number }
  unresolved: UnresolvedStatus[]
}

export interface LayerStatus {
  path: JsonBytes
  role: LayerRole
  fsType: string
  /** Null while the layer is not watched. */
  scope: Scope | null
  /** Why each better scope was not taken, and why parts are not watched. */
  reasons: string[]
  /** Directories watched one by one. */
  directories: number
  unwatched: JsonBytes[]
}

export interface UnresolvedStatus {
  path: JsonBytes
  kind: StaleKind
  /** ISO 8601. */
  since: string
  holders: HolderStatus[]
}

export interface HolderStatus extends Omit<Holder, 'path'> {
  path: JsonBytes
}
