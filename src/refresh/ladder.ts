// SPDX-License-Identifier: MIT
import { native } from '../native.js'
import type { OpenOverlay } from '../overlay/types.js'
import type { RefreshPolicy } from './policy.js'
import { refuseSwap } from './swap.js'

export type RungName = 'kernel' | 'invalidate' | 'remount' | 'nudge' | 'swap' | 'drop-caches'

export interface Rung {
  name: RungName
  /** Why this rung cannot be used for this overlay; '' when it can. */
  unavailable: string
}

/** The refresh ladder of one overlay, best rung first. */
export async function ladder(overlay: OpenOverlay, policy: RefreshPolicy): Promise<Rung[]> {
  const unpatched = patchedReason(overlay)
  const admin = native.capabilities().includes('CAP_SYS_ADMIN') ? '' : 'needs CAP_SYS_ADMIN'
  const readOnly = overlay.description.upper === null
  const swapReason = policy.swap === 'never' ? 'switched off' : admin || (await refuseSwap(overlay))
  return [
    { name: 'kernel', unavailable: unpatched },
    { name: 'invalidate', unavailable: unpatched },
    { name: 'remount', unavailable: admin },
    { name: 'nudge', unavailable: nudgeReason(readOnly, policy) },
    { name: 'swap', unavailable: swapReason },
    { name: 'drop-caches', unavailable: policy.dropCaches ? admin : 'machine-wide: only when asked for' },
  ]
}

/** The patched overlayfs shows its option in the mount table when it is on. */
function patchedReason(overlay: OpenOverlay): string {
  const mode = overlay.description.options.find(([name]) => name === 'lower_changes')?.[1] ?? null
  if (mode === null) return 'this overlayfs has no lower_changes option'
  return `lower_changes=${mode} is not used yet`
}

function nudgeReason(readOnly: boolean, policy: RefreshPolicy): string {
  if (readOnly) return 'the overlay has no upper'
  return policy.nudge ? '' : 'switched off'
}
