// SPDX-License-Identifier: MIT
import type { ByteString } from '../bytes.js'
import { checkOverlay } from '../coherence/check.js'
import { mountAlike } from '../coherence/fresh-mount.js'
import { findHolders } from '../coherence/holders.js'
import { staleListings } from '../coherence/listing.js'
import { Oracle } from '../coherence/oracle.js'
import { LowerwatchError } from '../errors.js'
import { native } from '../native.js'
import type { Holder, OpenOverlay, StaleEntry } from '../overlay/types.js'
import { invalidate } from './invalidate.js'
import { ladder, type RungName } from './ladder.js'
import { nudge } from './nudge.js'
import { defaultPolicy, type RefreshPolicy } from './policy.js'
import { remount } from './remount.js'
import { refuseSwap, swap } from './swap.js'

export interface RefreshReport {
  before: StaleEntry[]
  /** Rungs that were used (or would be), in order. */
  used: RungName[]
  /** Rungs that were not, and why. */
  skipped: { name: RungName; reason: string }[]
  /** Null for a dry run. */
  after: StaleEntry[] | null
  holders: Holder[]
  durationMs: number
}

/** Rungs that a person may name. */
export const strategies: readonly RungName[] = ['invalidate', 'remount', 'nudge', 'swap', 'drop-caches']

/**
 * One refresh, verified: check, refresh by the ladder (or by the one rung that was named), check again.
 *
 * @throws LowerwatchError STRATEGY_UNAVAILABLE when the named rung cannot be used here
 */
export async function refreshOnce(
  overlay: OpenOverlay,
  options: { paths: ByteString[] | null; strategy: RungName | null; dryRun: boolean },
): Promise<RefreshReport> {
  const policy: RefreshPolicy = { ...defaultPolicy, dropCaches: options.strategy === 'drop-caches' }
  const rungs = await ladder(overlay, policy)
  const named = rungs.find((rung) => rung.name === options.strategy)
  if (named !== undefined && named.unavailable !== '') {
    throw new LowerwatchError(
      'STRATEGY_UNAVAILABLE',
      `rung ${named.name} cannot be used: ${named.unavailable}`,
    )
  }
  const { entries: before } = await checkOverlay(overlay, { paths: options.paths })
  const used: RungName[] = []
  const startedAt = performance.now()
  let left = before
  for (const rung of rungs) {
    // Nothing to do on rung kernel: whoever asks for a refresh gets the next one.
    if (
      rung.name === 'kernel' ||
      rung.unavailable !== '' ||
      (named !== undefined && rung.name !== named.name)
    )
      continue
    if (named === undefined && used.length > 0 && !cures(rung.name, left)) continue
    used.push(rung.name)
    if (options.dryRun) continue
    await climb(rung.name, overlay, policy, left)
    if (rung.name !== 'swap') left = (await checkOverlay(overlay, { paths: options.paths })).entries
    else left = []
  }
  return {
    before,
    used,
    skipped: rungs
      .filter((rung) => rung.unavailable !== '')
      .map((rung) => ({ name: rung.name, reason: rung.unavailable })),
    after: options.dryRun ? null : left,
    holders: !options.dryRun && left.length > 0 ? (await findHolders(overlay)).holders : [],
    durationMs: performance.now() - startedAt,
  }
}

/** Without a finding the first rung still runs: ghosts that nobody names cannot be seen. */
function cures(rung: RungName, stale: StaleEntry[]): boolean {
  return rung === 'nudge' ? stale.some((entry) => entry.kind === 'listing') : stale.length > 0
}

async function climb(
  rung: RungName,
  overlay: OpenOverlay,
  policy: RefreshPolicy,
  stale: StaleEntry[],
): Promise<void> {
  if (rung === 'remount') await remount(overlay)
  else if (rung === 'invalidate') await invalidate(overlay, null)
  else if (rung === 'nudge') await nudgeAll(overlay, policy, stale)
  else if (rung === 'drop-caches') await native.dropCaches(overlay.lane)
  else if (rung === 'swap') {
    const refusal = await refuseSwap(overlay)
    if (refusal !== '')
      throw new LowerwatchError('STRATEGY_UNAVAILABLE', `rung swap cannot be used: ${refusal}`)
    const fresh = await mountAlike(overlay)
    try {
      await swap(overlay, fresh)
    } finally {
      fresh.close()
    }
  }
}

async function nudgeAll(overlay: OpenOverlay, policy: RefreshPolicy, stale: StaleEntry[]): Promise<void> {
  const paths = stale.filter((entry) => entry.kind === 'listing').map((entry) => entry.path)
  const oracle = await Oracle.create(overlay)
  try {
    const fresh = () => Promise.resolve(oracle)
    const { stale: listings } = await staleListings(overlay, new Map(paths.map((path) => [path, []])), fresh)
    await nudge(overlay, listings, policy, fresh)
  } finally {
    oracle.close()
  }
}
