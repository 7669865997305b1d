// SPDX-License-Identifier: MIT
import { agrees, type StaleListing } from '../coherence/listing.js'
import type { Oracle } from '../coherence/oracle.js'
import { native } from '../native.js'
import type { OpenOverlay, StaleEntry } from '../overlay/types.js'
import type { RefreshPolicy } from './policy.js'

export interface NudgeResult {
  nudged: number
  /** Listings that are stale still, and why. */
  left: StaleEntry[]
}

/**
 * Rung "nudge": makes overlayfs drop its shared listing of a directory, by a temporary name made and removed
 * through the overlay. Only where the upper already has the directory, unless copying up is allowed.
 */
export async function nudge(
  overlay: OpenOverlay,
  listings: StaleListing[],
  policy: RefreshPolicy,
  oracle: () => Promise<Oracle>,
): Promise<NudgeResult> {
  const result: NudgeResult = { nudged: 0, left: [] }
  for (const listing of listings) {
    const refusal = refuse(overlay, listing, policy)
    if (refusal === '') {
      await native.nudge(overlay.lane, overlay.root, listing.directory)
      result.nudged++
      if (await agrees(overlay, await oracle(), listing.directory, listing.names)) continue
    }
    const detail = refusal || 'the listing is stale after a nudge'
    result.left.push({ path: listing.directory, kind: 'listing', detail })
  }
  return result
}

function refuse(overlay: OpenOverlay, listing: StaleListing, policy: RefreshPolicy): string {
  if (overlay.description.upper === null) return 'held open, and there is no upper to nudge'
  if (!policy.nudge) return 'held open, and nudge is switched off'
  if (!listing.upperHasIt && !policy.nudgeCopyUp) return 'held open, and a nudge would copy it up'
  return ''
}
