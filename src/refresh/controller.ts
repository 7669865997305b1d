// SPDX-License-Identifier: MIT

import type { ByteString } from '../bytes.js'
import { examine } from '../coherence/examine.js'
import { type Change, native } from '../native.js'
import type { OpenLayer, OpenOverlay } from '../overlay/types.js'
import { type LowerChanges, PendingChanges } from '../watch/changes.js'
import type { ChangeSink } from '../watch/stream.js'
import { Fresh } from './fresh.js'
import { Leftover } from './leftover.js'
import type { RefreshPolicy } from './policy.js'
import { Refresher } from './refresher.js'
import { RefreshStatistics } from './statistics.js'
import { UnresolvedStaleness } from './unresolved.js'
import { VanishedDirectories } from './vanished.js'

export interface ControllerEvents {
  log(level: 'debug' | 'info' | 'warn', message: string, fields?: Record<string, unknown>): void
  /** Those of overlays that have this one as a layer, topmost first. */
  above(): OverlayController[]
  /** Resolves when every change made before the call has been accepted. */
  caughtUp(): Promise<void>
  /** The changes have been served: overlays that have this one as a layer are next. */
  served(changes: LowerChanges): void
  /** The overlay is being replaced by a fresh one at the same place. */
  swapping(swap: Promise<void>): void
}

/** Keeps one overlay coherent: takes changes, examines, refreshes, verifies. One round at a time. */
export class OverlayController implements ChangeSink {
  readonly statistics = new RefreshStatistics()
  readonly unresolved: UnresolvedStaleness
  private readonly pending = new PendingChanges()
  private readonly refresher: Refresher
  private readonly leftover: Leftover
  private readonly fresh: Fresh
  private readonly vanished: VanishedDirectories
  private lookTimer: NodeJS.Timeout | null = null
  private round: Promise<void> | null = null
  private closed = false
  private catchingUp = false
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
    this.unresolved = new UnresolvedStaleness((letGo) => {
      this.retry = true
      this.letGo ||= letGo
      this.flush()
    })
    this.fresh = new Fresh(overlay, policy.swap === 'auto' && overlay.description.upper === null)
    this.vanished = new VanishedDirectories(overlay, policy, (message) => events.log('info', message))
    const { statistics, refresher, fresh, unresolved } = this
    this.leftover = new Leftover(overlay, policy, statistics, refresher, fresh, unresolved, {
      log: events.log,
      sayOnce: (level, message) => this.sayOnce(level, message),
      searched: () => this.flush(),
      swapping: (swap) => {
        events.swapping(swap)
        // What is left of it is its holders'. The one in its place is taken as one that appeared.
        swap.then(
          () => {
            this.closed = true
          },
          () => {},
        )
      },
    })
  }

  accept(layer: OpenLayer, change: Change, readAtNs: bigint): void {
    this.statistics.changes++
    if (layer.role === 'data') this.pending.addDirty('a data-only layer changed', readAtNs)
    else this.pending.add(change, readAtNs)
    this.vanished.add(change)
  }

  renamed(layer: OpenLayer, from: ByteString, to: ByteString): void {
    if (layer.role !== 'data') this.pending.addRename({ layer, from, to })
  }

  /** Overlays, and the fresh mounts they are compared with, pin what they have cached of the overlays below. */
  private async above(): Promise<OpenOverlay[]> {
    const controllers = this.events.above()
    for (const { fresh } of controllers) await fresh.forget()
    // One that was let go meanwhile is asked for no more.
    return controllers.filter(({ closed }) => !closed).map(({ overlay }) => overlay)
  }

  /** Everything may have changed before the watch. */
  async start(): Promise<void> {
    await this.refresher.forget(null)
  }

  /** Looks for what holders have kept stale since before the watch. */
  async lookForHeld(): Promise<void> {
    if (this.refresher.byInvalidation) return
    this.leftover.held.addEverything()
    this.flush()
    await this.settled()
    // Where a swap cures what is held, the comparison is on the way to the right answer: no time to mount then. What
    // prevents it is said when it is needed.
    if (this.leftover.maySwap && !this.follows && !this.closed)
      await this.fresh.oracle().catch(() => undefined)
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
    while (
      this.round !== null ||
      (!this.leftover.held.isEmpty && !this.closed && this.failureTimer === null)
    ) {
      if (this.round === null) await this.leftover.held.ready()
      this.flush()
      await this.round
    }
  }

  /** Ends all work. The overlay stays open: whoever opened it closes it. */
  async stop(): Promise<void> {
    this.closed = true
    this.leftover.close()
    for (const timer of [this.failureTimer, this.lookTimer]) if (timer !== null) clearTimeout(timer)
    await this.settled()
    if (this.leftover.held.isSearching) await this.leftover.held.ready()
    await this.fresh.close()
  }

  private get hasWork(): boolean {
    return !this.closed && (this.retry || !this.pending.isEmpty || this.lookIsDue)
  }

  /** What failed is tried again after a pause, and not before. */
  private get lookIsDue(): boolean {
    return this.leftover.held.isDue && this.failureTimer === null
  }

  private async work(): Promise<void> {
    while (this.hasWork) {
      const changes = this.pending.isEmpty ? null : this.pending.take()
      try {
        if (changes !== null) await this.serve(changes)
        if (this.retry) await this.retryUnresolved()
        if (changes === null && this.lookIsDue) await this.look()
        // A look that fails is made again: what is served meanwhile does not make that sooner.
        if (this.leftover.held.isEmpty) this.failures = 0
      } catch (error) {
        if (!this.closed) this.failed(error)
      }
      if (changes !== null && !this.closed) this.events.served(changes)
    }
    this.round = null
    if (!this.catchingUp) void this.catchUp()
  }

  /** Changes are served some time after they were made: until then, what was held meanwhile matters. */
  private async catchUp(): Promise<void> {
    this.catchingUp = true
    while (this.leftover.isBehind && !this.closed) {
      const upTo = this.leftover.heldSoFar
      await this.events.caughtUp()
      await this.idle()
      this.leftover.caughtUp(upTo)
    }
    this.catchingUp = false
  }

  /** Resolves when what has been accepted has been served. */
  async idle(): Promise<void> {
    while (this.round !== null) await this.round
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
    await this.leftover.verify(found, changed, changes)
    if (this.lookIsDue && !this.closed) await this.look()
    else this.lookLater()
    await this.applyVanish()
  }

  private async applyVanish(): Promise<void> {
    if (await this.vanished.apply()) await this.refresher.refresh()
  }

  private async retryUnresolved(): Promise<void> {
    const refresh = this.letGo
    this.retry = this.letGo = false
    await this.leftover.retry(refresh)
  }

  private async look(): Promise<void> {
    try {
      await this.leftover.look()
    } finally {
      this.lookLater()
    }
  }

  private lookLater(): void {
    if (this.leftover.held.isEmpty || this.leftover.held.isSearching || this.closed) return
    if (this.lookTimer !== null || this.failureTimer !== null) return
    this.lookTimer = setTimeout(() => {
      this.lookTimer = null
      this.flush()
    }, this.leftover.held.waitMs())
    this.lookTimer.unref()
  }

  private sayOnce(level: 'info' | 'warn', message: string): void {
    if (this.said.has(message)) return
    this.said.add(message)
    this.events.log(level, message)
  }
}
