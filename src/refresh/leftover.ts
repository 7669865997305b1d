// SPDX-License-Identifier: MIT
import { type ByteString, display, join, split } from '../bytes.js'
import { type Examination, movedTo } from '../coherence/examine.js'
import { findHolders } from '../coherence/holders.js'
import type { StaleListing } from '../coherence/listing.js'
import { compareLookups, verify } from '../coherence/verify.js'
import { Kind } from '../native.js'
import type { Holder, OpenOverlay, StaleEntry } from '../overlay/types.js'
import type { LowerChanges, Rename } from '../watch/changes.js'
import { withPlaces } from './attribution.js'
import type { Fresh } from './fresh.js'
import { HeldLooks } from './held.js'
import { nudge } from './nudge.js'
import { MergedPlaces } from './places.js'
import type { RefreshPolicy } from './policy.js'
import type { Refresher } from './refresher.js'
import type { RefreshStatistics } from './statistics.js'
import { touchedBy } from './suspects.js'
import { refuseSwap, swap } from './swap.js'
import type { Checked, UnresolvedStaleness } from './unresolved.js'

export interface LeftoverEvents {
  log(level: 'debug' | 'info' | 'warn', message: string, fields?: Record<string, unknown>): void
  sayOnce(level: 'info' | 'warn', message: string): void
  /** A search of the processes has ended: a look can be made. */
  searched(): void
  /** The overlay is being replaced by a fresh one at the same place. */
  swapping(swap: Promise<void>): void
}

/** A reader that comes again and again pins what it reads, but not at every moment. */
const retryAttempts = 4

/** What a refresh does not cure: found, cured by nudge or swap, or else named with who holds it. */
export class Leftover {
  readonly held: HeldLooks
  private readonly places: MergedPlaces
  /** Of the last round: a suspect may become known only after it was renamed. */
  private openRenames: Rename[] = []
  private attributeRounds = 0
  private servedUpTo = 0
  private closed = false

  constructor(
    private readonly overlay: OpenOverlay,
    private readonly policy: RefreshPolicy,
    private readonly statistics: RefreshStatistics,
    private readonly refresher: Refresher,
    private readonly fresh: Fresh,
    private readonly unresolved: UnresolvedStaleness,
    private readonly events: LeftoverEvents,
  ) {
    const suspects = () => unresolved.suspects.paths()
    this.places = new MergedPlaces(overlay)
    this.held = new HeldLooks(overlay, fresh.oracle, policy.refreshShare, suspects, () => events.searched())
  }

  get maySwap(): boolean {
    return this.policy.swap === 'auto' && this.overlay.description.upper === null
  }

  /** What a refresh did not cure: pinned dentries at once, what is held otherwise as soon as its budget allows. */
  async verify(found: Examination, changed: ByteString[] | null, changes: LowerChanges): Promise<void> {
    // A held directory can be in the way where its lower is now, also when that is revealed only later.
    const { suspects } = this.unresolved
    this.held.addLookups(touchedBy(changes, [...suspects.paths(), ...this.held.moved.keys()]))
    this.held.addLookups(this.places.touchedBy(changes))
    // The kernel verifies what is held as well, once it is told.
    if (!this.refresher.byInvalidation) this.held.add(found)
    const names = found.stale.map((entry) => join(entry.directory, entry.name))
    const again = () => this.refresher.forget(changed)
    const { cached, left } = await verify(this.overlay, found.stale, this.fresh.oracle, again)
    suspects.add(cached)
    this.followFiles(found, cached, changes)
    this.openRenames = await this.places.follow(
      [...this.openRenames, ...changes.renames],
      new Set(suspects.paths()),
      changes.renames,
    )
    await this.conclude({ paths: new Set(names), listings: new Set() }, left)
  }

  /**
   * A file that was renamed below has its inode at the new name as well, when that is looked up while somebody has it,
   * with the mode and the owner of before: whoever holds it still, and who opened it there before all others let go.
   */
  private followFiles({ stale }: Examination, cached: ByteString[], changes: LowerChanges): void {
    if (changesFileAttributes(changes)) this.attributeRounds++
    if (this.unresolved.suspects.isEmpty && this.heldSoFar === this.servedUpTo) return
    const to = movedTo(changes, 0)
    this.held.addMoved(to)
    const held = new Set(cached)
    const isHeld = stale.some(
      ({ directory, name, change }) =>
        (change & (Kind.movedFrom | Kind.directory)) === Kind.movedFrom && held.has(join(directory, name)),
    )
    if (isHeld) this.held.addMovedHeld(to)
  }

  /** Counts what may have left an inode with attributes of before with somebody. */
  get heldSoFar(): number {
    return this.unresolved.suspects.added + this.attributeRounds
  }

  /** Nothing is held any more, but what was renamed while something was may not have been served yet. */
  get isBehind(): boolean {
    return this.unresolved.suspects.isEmpty && this.heldSoFar !== this.servedUpTo
  }

  /** All that happened while {@link heldSoFar} was this has been served. */
  caughtUp(upTo: number): void {
    this.servedUpTo = upTo
  }

  /** What holders keep stale, as far as its budget allows to look for it now. */
  async look(): Promise<void> {
    const { checked, entries, listings, holders, cached } = await this.held.look()
    this.unresolved.suspects.add(cached)
    await this.conclude(checked, [...entries, ...(await this.cureListings(listings))], holders)
  }

  /** Nothing is said any more. */
  close(): void {
    this.closed = true
    this.unresolved.close()
  }

  /** Swaps the overlay when something is left and that is possible; else says what is left, and who holds it. */
  private async conclude(
    checked: Checked,
    left: StaleEntry[],
    holders: Holder[] | null = null,
  ): Promise<void> {
    if (this.closed || (left.length > 0 && (await this.trySwap()))) return
    if (left.length > 0 || !this.unresolved.isEmpty) await this.report(checked, left, holders)
  }

  private async cureListings(listings: StaleListing[]): Promise<StaleEntry[]> {
    if (listings.length === 0) return []
    const result = await nudge(this.overlay, listings, this.policy, this.fresh.oracle)
    this.statistics.nudges += result.nudged
    return result.left
  }

  private async trySwap(): Promise<boolean> {
    if (!this.maySwap) return false
    const { root } = await this.fresh.oracle()
    const refusal = this.fresh.notAlike || (await refuseSwap(this.overlay))
    if (refusal !== '') {
      this.events.sayOnce('info', `rung swap is not available: ${refusal}`)
      return false
    }
    const swapped = swap(this.overlay, root)
    this.events.swapping(swapped)
    await swapped
    this.statistics.swaps++
    return true
  }

  private async report(checked: Checked, left: StaleEntry[], seen: Holder[] | null = null): Promise<void> {
    const holders = seen ?? (left.length > 0 ? (await findHolders(this.overlay)).holders : null)
    // Nothing looks wrong: who holds it can be asked later.
    if (holders === null && this.unresolved.suspects.areNew) this.held.addEverything()
    const { moved } = this.held
    const places = await this.places.inTheWay(new Set(this.unresolved.suspects.paths()), moved)
    const holding = holders === null ? null : { holders, moved: withPlaces({ holders, moved }, places) }
    const before = this.unresolved.list()
    const added = await this.unresolved.update(checked, left, holding)
    added.push(...this.unresolved.setInTheWay(places))
    const wrong = new Set(this.unresolved.list().map(({ path }) => path))
    // A listing that was made meanwhile leaves out what could not be looked up, and keeps it so.
    for (const { path, causes } of before) {
      if (wrong.has(path)) continue
      for (const at of [path, ...causes]) {
        const { directory, name } = split(at)
        if (at !== '') this.held.addListing(directory, [name])
      }
    }
    for (const { path, kind, detail, holders: pins } of added) {
      const by = pins.map(({ pid, command, via, fd }) => ({ pid, command, via, fd }))
      this.events.log('warn', 'stale until its holder lets go', {
        path: display(path),
        kind,
        detail,
        holders: by,
      })
    }
  }

  /** @param refresh - First: a holder has let go */
  async retry(refresh: boolean): Promise<void> {
    const paths = this.unresolved.paths()
    let left = refresh ? [] : await compareLookups(this.overlay, paths, this.fresh.oracle)
    for (let attempt = 0; refresh && attempt < retryAttempts; attempt++) {
      await this.refresher.refresh()
      left = await compareLookups(this.overlay, paths, this.fresh.oracle)
      if (left.length === 0) break
    }
    // Who has let go is not to be asked again.
    const holders = refresh && !this.unresolved.isEmpty ? (await findHolders(this.overlay)).holders : null
    await this.report({ paths: new Set(paths), listings: new Set() }, left, holders)
  }
}

function changesFileAttributes(changes: LowerChanges): boolean {
  for (const names of changes.directories.values())
    for (const kind of names.values())
      if ((kind & (Kind.attributes | Kind.directory)) === Kind.attributes) return true
  return false
}
