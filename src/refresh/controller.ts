// SPDX-License-Identifier: MIT
import { type ByteString, display, join, split } from '../bytes.js'
import { type Examination, examine, movedTo } from '../coherence/examine.js'
import { findHolders } from '../coherence/holders.js'
import type { StaleListing } from '../coherence/listing.js'
import { Oracle } from '../coherence/oracle.js'
import { compareLookups, verify } from '../coherence/verify.js'
import { type Change, Kind, native } from '../native.js'
import type { Holder, OpenLayer, OpenOverlay, StaleEntry } from '../overlay/types.js'
import { type LowerChanges, PendingChanges, type Rename } from '../watch/changes.js'
import type { ChangeSink } from '../watch/stream.js'
import { withPlaces } from './attribution.js'
import { HeldLooks } from './held.js'
import { nudge } from './nudge.js'
import { MergedPlaces } from './places.js'
import type { RefreshPolicy } from './policy.js'
import { Refresher } from './refresher.js'
import { RefreshStatistics } from './statistics.js'
import { touchedBy } from './suspects.js'
import { swap } from './swap.js'
import { type Checked, UnresolvedStaleness } from './unresolved.js'
import { applyVanish } from './vanish.js'

export interface ControllerEvents {
  log(level: 'debug' | 'info' | 'warn', message: string, fields?: Record<string, unknown>): void
  /** Those of overlays that have this one as a layer, topmost first. */
  above(): OverlayController[]
  /** The changes have been served: overlays that have this one as a layer are next. */
  served(changes: LowerChanges): void
  /** The overlay has been replaced by a fresh one at the same place. */
  swapped(): void
}

/** A reader that comes again and again pins what it reads, but not at every moment. */
const retryAttempts = 4

/** Keeps one overlay coherent: takes changes, examines, refreshes, verifies. One round at a time. */
export class OverlayController implements ChangeSink {
  readonly statistics = new RefreshStatistics()
  readonly unresolved: UnresolvedStaleness
  private readonly pending = new PendingChanges()
  private readonly refresher: Refresher
  private readonly held: HeldLooks
  private lookTimer: NodeJS.Timeout | null = null
  private readonly places: MergedPlaces
  /** Of the last round: a suspect may become known only after it was renamed. */
  private openRenames: Rename[] = []
  private vanished = new Map<string, { directory: ByteString; name: ByteString }>()
  private round: Promise<void> | null = null
  private freshMount: Promise<Oracle> | null = null
  /** The fresh mount to compare with, made when it is first needed. */
  private readonly oracle = (): Promise<Oracle> => {
    this.freshMount ??= Oracle.create(this.overlay).catch((error) => {
      this.freshMount = null
      throw error
    })
    return this.freshMount
  }
  private closed = false
  /** What is unresolved must be looked at again; and refreshed first, when a holder has let go. */
  private retry = false
  private letGo = false
  private failures = 0
  private failureTimer: NodeJS.Timeout | null = null
  /** What was logged once and need not be said again. */
  private readonly said = new Set<string>()

  constructor(
    readonly overlay: OpenOverlay,
    readonly policy: RefreshPolicy,
    private readonly events: ControllerEvents,
    /** Rung "kernel": nothing to refresh. */
    readonly follows: boolean,
  ) {
    this.refresher = new Refresher(overlay, policy, this.statistics, {
      above: () => this.above(),
      refreshed: () => {
        for (const one of [this, ...events.above()]) one.unresolved.suspects.dropForgotten(one.overlay)
      },
      sayOnce: (level, message) => this.sayOnce(level, message),
    })
    this.places = new MergedPlaces(overlay)
    this.held = new HeldLooks(
      overlay,
      this.oracle,
      policy.refreshShare,
      () => this.unresolved.suspects.paths(),
      () => this.flush(),
    )
    this.unresolved = new UnresolvedStaleness((letGo) => {
      this.retry = true
      this.letGo ||= letGo
      this.flush()
    })
  }

  accept(layer: OpenLayer, change: Change, readAtNs: bigint): void {
    this.statistics.changes++
    if (layer.role === 'data') this.pending.addDirty('a data-only layer changed', readAtNs)
    else this.pending.add(change, readAtNs)
    const gone = Kind.delete | Kind.movedFrom
    if (this.policy.onVanish !== 'keep' && change.kind & Kind.directory && change.kind & gone) {
      const { directory, name } = change
      this.vanished.set(join(directory, name), { directory, name })
    }
  }

  renamed(layer: OpenLayer, from: ByteString, to: ByteString): void {
    if (layer.role !== 'data') this.pending.addRename({ layer, from, to })
  }

  /** Overlays, and the fresh mounts they are compared with, pin what they have cached of the overlays below. */
  private async above(): Promise<OpenOverlay[]> {
    const controllers = this.events.above()
    for (const { freshMount } of controllers) await (await freshMount)?.forget()
    return controllers.map(({ overlay }) => overlay)
  }

  /** Everything may have changed before the watch. */
  async start(): Promise<void> {
    await this.refresher.forget(null)
  }

  /** Looks for what holders have kept stale since before the watch. */
  async lookForHeld(): Promise<void> {
    if (this.refresher.byInvalidation) return
    this.held.addEverything()
    this.flush()
    await this.settled()
    // Where a swap cures what is held, the comparison is on the way to the right answer: no time to mount then. What
    // prevents it is said when it is needed.
    if (this.maySwap && !this.follows && !this.closed) await this.oracle().catch(() => undefined)
  }

  private get maySwap(): boolean {
    return this.policy.swap === 'auto' && this.overlay.description.upper === null
  }

  /** Everything may be stale: changes from before the watch, or that nobody counted. */
  markDirty(reason: string): void {
    this.pending.addDirty(reason, native.monotonicNs())
    this.flush()
  }

  get refreshShare(): number {
    return this.policy.refreshShare
  }

  refreshed(spentMs: number, latencyMs: number): void {
    this.statistics.refreshes++
    this.statistics.addLatency(latencyMs)
    this.refresher.charge(spentMs)
  }

  flush(): void {
    if (this.round === null && this.hasWork) this.round = this.work()
  }

  /** Resolves when every change accepted so far has been served, and what holders keep stale has been looked at. */
  async settled(): Promise<void> {
    await this.unresolved.lookNow()
    while (this.round !== null || (!this.held.isEmpty && !this.closed && this.failureTimer === null)) {
      if (this.round === null) await this.held.ready()
      this.flush()
      await this.round
    }
  }

  async close(): Promise<void> {
    this.closed = true
    this.unresolved.close()
    for (const timer of [this.failureTimer, this.lookTimer]) if (timer !== null) clearTimeout(timer)
    await this.settled()
    if (this.held.isSearching) await this.held.ready()
    await this.dropOracle()
    this.overlay.close()
  }

  private get hasWork(): boolean {
    return !this.closed && (this.retry || !this.pending.isEmpty || this.lookIsDue)
  }

  /** What failed is tried again after a pause, and not before. */
  private get lookIsDue(): boolean {
    return this.held.isDue && this.failureTimer === null
  }

  private async work(): Promise<void> {
    while (this.hasWork) {
      const changes = this.pending.isEmpty ? null : this.pending.take()
      try {
        if (changes !== null) await this.serve(changes)
        if (this.retry) await this.retryUnresolved()
        if (changes === null && this.lookIsDue) await this.look()
        // A look that fails is made again: what is served meanwhile does not make that sooner.
        if (this.held.isEmpty) this.failures = 0
      } catch (error) {
        if (!this.closed) this.failed(error)
      }
      if (changes !== null && !this.closed) this.events.served(changes)
    }
    this.round = null
  }

  /** Nothing is lost by a failure: all that may be stale is looked at again, later and later. */
  private failed(error: unknown): void {
    this.sayOnce('warn', `cannot refresh: ${error instanceof Error ? error.message : String(error)}`)
    this.retry = this.letGo = false
    if (this.failureTimer !== null) return
    const delayMs = Math.min(60_000, 100 * 2 ** this.failures++)
    this.failureTimer = setTimeout(() => {
      this.failureTimer = null
      this.markDirty('an earlier refresh failed')
    }, delayMs)
    this.failureTimer.unref()
  }

  private async serve(changes: LowerChanges): Promise<void> {
    if (changes.layerGone) this.sayOnce('warn', 'a lower layer was removed or unmounted')
    if (this.follows) return this.applyVanish()
    const found = await examine(this.overlay, changes, this.refresher.byInvalidation)
    const needed = found.stale.length > 0 || found.unknownReason !== ''
    // Null: all of them.
    const changed =
      this.refresher.byInvalidation && found.unknownReason === '' ? found.changedDirectories : null
    if (needed || (changed !== null && changed.length > 0)) {
      if (found.unknownReason !== '') this.sayOnce('info', `refreshing without names: ${found.unknownReason}`)
      await this.refresher.refresh(changed)
      this.statistics.addLatency(Number(native.monotonicNs() - changes.sinceNs) / 1e6)
    } else {
      this.statistics.refreshesAvoided++
    }
    // A held directory can be in the way where its lower is now, also when that is revealed only later.
    const { suspects } = this.unresolved
    this.held.addLookups(touchedBy(changes, [...suspects.paths(), ...this.held.moved.keys()]))
    this.held.addLookups(this.places.touchedBy(changes))
    await this.verify(found, changed, changes)
    await this.applyVanish()
  }

  /** What a refresh did not cure: pinned dentries at once, what is held otherwise as soon as its budget allows. */
  private async verify(
    found: Examination,
    changed: ByteString[] | null,
    changes: LowerChanges,
  ): Promise<void> {
    // The kernel verifies what is held as well, once it is told.
    if (!this.refresher.byInvalidation) this.held.add(found)
    const names = found.stale.map((entry) => join(entry.directory, entry.name))
    const again = () => this.refresher.forget(changed)
    const { cached, left } = await verify(this.overlay, found.stale, this.oracle, again)
    this.unresolved.suspects.add(cached)
    this.followFiles(found, cached, changes)
    this.openRenames = await this.places.follow(
      [...this.openRenames, ...changes.renames],
      new Set(this.unresolved.suspects.paths()),
      changes.renames,
    )
    await this.conclude({ paths: new Set(names), listings: new Set() }, left)
    if (this.lookIsDue && !this.closed) await this.look()
    else this.lookLater()
  }

  /**
   * A file that was renamed below has its inode at the new name as well, when that is looked up while somebody has it,
   * with the mode and the owner of before: whoever holds it still, and who opened it there before all others let go.
   */
  private followFiles({ stale }: Examination, cached: ByteString[], changes: LowerChanges): void {
    const to = movedTo(changes, 0)
    this.held.addMoved(to)
    const held = new Set(cached)
    const isHeld = stale.some(
      ({ directory, name, change }) =>
        (change & (Kind.movedFrom | Kind.directory)) === Kind.movedFrom && held.has(join(directory, name)),
    )
    if (isHeld) this.held.addMovedHeld(to)
  }

  private async look(): Promise<void> {
    try {
      const { checked, entries, listings, holders, cached } = await this.held.look()
      this.unresolved.suspects.add(cached)
      await this.conclude(checked, [...entries, ...(await this.cureListings(listings))], holders)
    } finally {
      this.lookLater()
    }
  }

  private lookLater(): void {
    if (this.held.isEmpty || this.held.isSearching || this.closed) return
    if (this.lookTimer !== null || this.failureTimer !== null) return
    this.lookTimer = setTimeout(() => {
      this.lookTimer = null
      this.flush()
    }, this.held.waitMs())
    this.lookTimer.unref()
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
    const result = await nudge(this.overlay, listings, this.policy, this.oracle)
    this.statistics.nudges += result.nudged
    return result.left
  }

  private async trySwap(): Promise<boolean> {
    if (!this.maySwap) return false
    const refusal = await swap(this.overlay)
    if (refusal !== '') {
      this.sayOnce('info', `rung swap is not available: ${refusal}`)
      return false
    }
    this.statistics.swaps++
    this.events.swapped()
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

  private async retryUnresolved(): Promise<void> {
    const refresh = this.letGo
    this.retry = this.letGo = false
    const paths = this.unresolved.paths()
    let left = refresh ? [] : await compareLookups(this.overlay, paths, this.oracle)
    for (let attempt = 0; refresh && attempt < retryAttempts; attempt++) {
      await this.refresher.refresh()
      left = await compareLookups(this.overlay, paths, this.oracle)
      if (left.length === 0) break
    }
    // Who has let go is not to be asked again.
    const holders = refresh && !this.unresolved.isEmpty ? (await findHolders(this.overlay)).holders : null
    await this.report({ paths: new Set(paths), listings: new Set() }, left, holders)
  }

  private async applyVanish(): Promise<void> {
    if (this.vanished.size === 0) return
    const candidates = [...this.vanished.values()]
    this.vanished = new Map()
    let changed = false
    for (const { directory, name } of candidates) {
      const result = await applyVanish(this.policy.onVanish, this.overlay, directory, name, {
        dryRun: false,
        log: (message) => this.events.log('info', message),
      })
      changed ||= result.changed
    }
    if (changed) await this.refresher.refresh()
  }

  private async dropOracle(): Promise<void> {
    const oracle = await this.freshMount?.catch(() => null)
    this.freshMount = null
    oracle?.close()
  }

  private sayOnce(level: 'info' | 'warn', message: string): void {
    if (this.said.has(message)) return
    this.said.add(message)
    this.events.log(level, message)
  }
}
