// SPDX-License-Identifier: MIT

/** What the administrator allows for one overlay. */
export interface RefreshPolicy {
  /** Share of wall time that may be spent refreshing, 0.001 to 1. */
  refreshShare: number
  /** What happens to the upper's copy of a directory that vanished from its lower. */
  onVanish: 'keep' | 'archive' | 'prune'
  /** Replace an overlay without upper by a fresh one when a holder keeps it stale. */
  swap: 'auto' | 'never'
  /** Cure held listings by a temporary name. */
  nudge: boolean
  /** Nudge also where that copies the directory up. */
  nudgeCopyUp: boolean
  /** When a remount is refused: drop the caches of the whole machine. */
  dropCaches: boolean
  /** The mode of `lower_changes` that an overlay which is `off` is switched to, on a patched kernel. */
  lowerChanges: 'leave' | 'manual' | 'notify' | 'reval'
}

export const defaultPolicy: RefreshPolicy = {
  refreshShare: 0.1,
  onVanish: 'keep',
  swap: 'auto',
  nudge: true,
  nudgeCopyUp: false,
  dropCaches: false,
  lowerChanges: 'leave',
}
