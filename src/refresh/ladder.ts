// SPDX-License-Identifier: MIT
import { native } from '../native.js'
import { readMountTable } from '../overlay/discover.js'
import type { LowerChangesMode, OpenOverlay } from '../overlay/types.js'
import { lowerChangesMode } from './lower-changes.js'
import type { RefreshPolicy } from './policy.js'
import { refuseSwap } from './swap.js'

export type RungName = 'kernel' | 'invalidate' | 'remount' | 'nudge' | 'swap' | 'drop-caches'

export interface Rung {
  name: RungName
  /** Why this rung cannot be used for this overlay; '' when it can. */
  unavailable: string
}

/**
 * The refresh ladder of one overlay, best rung first.
 *
 * @param follows - False: the kernel was tried, and does not do what the mount option says
 * @param table - As for `refuseSwap`
 */
export async function ladder(
  overlay: OpenOverlay,
  policy: RefreshPolicy,
  follows = true,
  table = readMountTable,
): Promise<Rung[]> {
  const mode = lowerChangesMode(overlay.description)
  const admin = native.capabilities().includes('CAP_SYS_ADMIN') ? '' : 'needs CAP_SYS_ADMIN'
  const readOnly = overlay.description.upper === null
  const swapReason = policy.swap === 'never' ? 'switched off' : admin || (await refuseSwap(overlay, table))
  return [
    {
      name: 'kernel',
      unavailable: followingReason(mode, policy) || (follows ? '' : 'tried, and it does not follow'),
    },
    { name: 'invalidate', unavailable: invalidateReason(mode) || admin },
    { name: 'remount', unavailable: admin },
    { name: 'nudge', unavailable: nudgeReason(readOnly, policy) },
    { name: 'swap', unavailable: swapReason },
    { name: 'drop-caches', unavailable: policy.dropCaches ? admin : 'machine-wide: only when asked for' },
  ]
}

function followingReason(mode: LowerChangesMode | null, policy: RefreshPolicy): string {
  if (mode === null) return 'this overlayfs has no lower_changes option'
  if (mode === 'off') {
    return policy.lowerChanges === 'leave'
      ? 'lower_changes is off: lower-changes = "notify" switches it on'
      : `lower_changes is off in spite of lower-changes = "${policy.lowerChanges}": the log says why`
  }
  return mode === 'manual' ? 'lower_changes=manual leaves it to others' : ''
}

function invalidateReason(mode: LowerChangesMode | null): string {
  if (mode === null) return 'this overlayfs has no lower_changes option'
  return mode === 'manual' ? '' : `needs lower_changes=manual, it is ${mode}`
}

function nudgeReason(readOnly: boolean, policy: RefreshPolicy): string {
  if (readOnly) return 'the overlay has no upper'
  return policy.nudge ? '' : 'switched off'
}
