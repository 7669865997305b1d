// SPDX-License-Identifier: MIT
import { display } from '../bytes.js'
import { isSyscallError, LowerwatchError } from '../errors.js'
import { type Handle, type Lane, native } from '../native.js'
import { discoverOverlays } from '../overlay/discover.js'
import { type OpenOptions, openOverlay, scanForRedirects } from '../overlay/open.js'
import type { OpenOverlay, OverlayDescription } from '../overlay/types.js'
import { OverlayController } from '../refresh/controller.js'
import { hasLowerChanges, lowerChangesMode } from '../refresh/lower-changes.js'
import type { RefreshPolicy } from '../refresh/policy.js'
import type { LowerChanges } from '../watch/changes.js'
import { ChangeStream, OverlayWatch } from '../watch/stream.js'
import { lockOverlay } from './lock.js'
import type { Logger } from './log.js'
import { Modes } from './modes.js'
import { Nesting } from './nesting.js'
import { onceAtATime } from './once-at-a-time.js'

/** Directories looked at for redirects before names are mapped without them. */
const maxRedirectDirectories = 1_000_000

/** `lower_changes` of a mount can be changed without an event. */
const modeIntervalMs = 10_000

/** A small upper has been searched when the daemon says that it is ready; a large one is not waited for. */
const redirectPatienceMs = 50

export interface OverlaySettings {
  policy: RefreshPolicy
  /** Absolute layer paths for an overlay that was mounted with relative ones. */
  layers: OpenOptions
}

export interface Managed {
  settings: OverlaySettings
  controller: OverlayController
  watch: OverlayWatch
  lock: Handle
}

/** The overlays that this daemon serves, kept in step with the mount table. */
export class OverlayManager {
  readonly managed = new Map<string, Managed>()
  readonly stream: ChangeStream
  private readonly nesting: Nesting
  private readonly modes: Modes
  private readonly lane: Lane = new native.Lane('mounts')
  private syncing: Promise<void> = Promise.resolve()
  private modeTimer: NodeJS.Timeout | null = null
  private looking: Promise<void> = Promise.resolve()
  /** Searches of large uppers for redirects: until they end, changes cannot be told apart by name. */
  private readonly learning = new Set<Promise<void>>()
  /** Overlays that could not be taken, and what was said of them: each change of the mount table tries again. */
  private readonly refused = new Map<string, string>()
  /** Those that are being taken. */
  private readonly taking = new Map<string, Promise<void>>()
  /** In the middle of a swap the old overlay hides the new one, and both are in the mount table. */
  private readonly swapping = new Set<Promise<unknown>>()
  private swaps = 0

  constructor(
    private readonly settings: {
      wanted(description: OverlayDescription): boolean
      overlay(description: OverlayDescription): OverlaySettings
      reconcileIntervalMs: number
    },
    private readonly log: Logger,
  ) {
    if (hasLowerChanges()) {
      this.modeTimer = setInterval(() => void this.sync(), modeIntervalMs)
      this.modeTimer.unref()
    }
    this.stream = new ChangeStream(settings.reconcileIntervalMs, (message) => log.info(message))
    this.nesting = new Nesting(this.managed, this.stream)
    this.modes = new Modes(this.nesting, log)
  }

  /**
   * Takes overlays that appeared and lets go of those that went.
   *
   * @param strict - Throw when a wanted overlay cannot be served (at start), instead of reporting it once
   */
  sync(strict = false): Promise<void> {
    return this.inTurn(() => this.synchronise(strict))
  }

  /** What is taken is taken by the mount table and by the settings of one moment. */
  private inTurn(step: () => Promise<void>): Promise<void> {
    const turn = this.syncing.then(step)
    this.syncing = turn.catch(() => {})
    return turn
  }

  /** Resolves when all changes made before the call have been served. */
  async settle(): Promise<void> {
    await this.syncing
    await Promise.all(this.learning)
    await this.stream.settle()
    // An inner overlay forwards to the outer one when it is done: as often as overlays can be stacked.
    for (let depth = 0; depth < 3; depth++) {
      for (const { controller } of this.managed.values()) await controller.settled()
    }
  }

  /** Takes the settings anew: an overlay whose settings changed is let go and taken again. */
  reload(): Promise<void> {
    return this.inTurn(async () => {
      this.refused.clear()
      const switchedOff = this.modes.forget()
      for (const [device, { settings, controller }] of this.managed) {
        const { description } = controller.overlay
        const next = this.settings.wanted(description) ? this.settings.overlay(description) : null
        if (switchedOff.has(device) || JSON.stringify(next) !== JSON.stringify(settings))
          await this.release(device)
      }
      await this.synchronise(false)
    })
  }

  async close(): Promise<void> {
    if (this.modeTimer !== null) clearInterval(this.modeTimer)
    await this.syncing
    for (const device of [...this.managed.keys()]) await this.release(device)
    this.stream.close()
    this.lane.close()
  }

  private async synchronise(strict: boolean): Promise<void> {
    const present = await this.present()
    const gone: string[] = []
    for (const [device, { controller }] of this.managed) {
      const description = present.get(device)
      const mode = lowerChangesMode(controller.overlay.description)
      if (description === undefined) {
        gone.push(device)
      } else if (lowerChangesMode(description) !== mode) {
        // Reconfigured: taken again, by the rung that it has now.
        this.modes.changedByOthers(controller.overlay)
        await this.release(device)
      } else {
        controller.overlay.description.mounts = description.mounts
      }
    }
    for (const device of this.refused.keys()) if (!present.has(device)) this.refused.delete(device)
    this.modes.keepOnly(present)
    // All at once: each has a thread of its own, and is ready when the slowest is.
    const wanted = [...present.values()].filter((description) => this.settings.wanted(description))
    const taking = wanted.map((each) => this.take(each, present, strict))
    // The one that took the place of another is not to wait for its end.
    const ended = await Promise.allSettled([...taking, ...gone.map((device) => this.letGo(device))])
    for (const result of ended) if (result.status === 'rejected') throw result.reason
  }

  private async present(): Promise<Map<string, OverlayDescription>> {
    for (;;) {
      while (this.swapping.size > 0) await Promise.allSettled(this.swapping)
      const { swaps } = this
      const found = await discoverOverlays(this.lane)
      if (swaps === this.swaps) return new Map(found.map((each) => [each.device, each]))
    }
  }

  private async letGo(device: string): Promise<void> {
    const { mountPoint } = this.managed.get(device)!.controller.overlay.description.mounts[0]!
    await this.release(device)
    this.log.info({ overlay: display(mountPoint), device }, 'overlay is gone')
  }

  private take(
    description: OverlayDescription,
    present: ReadonlyMap<string, OverlayDescription>,
    strict: boolean,
  ): Promise<void> {
    const { device } = description
    if (this.managed.has(device)) return Promise.resolve()
    return onceAtATime(this.taking, device, () => this.takeNow(description, present, strict))
  }

  private async takeNow(
    description: OverlayDescription,
    present: ReadonlyMap<string, OverlayDescription>,
    strict: boolean,
  ): Promise<void> {
    const { device } = description
    const name = display(description.mounts[0]!.mountPoint)
    try {
      const settings = this.settings.overlay(description)
      const overlay = await openOverlay(description, settings.layers)
      // An overlay in which a layer lies must be coherent first.
      for (const { nested } of overlay.layers) {
        const inner = nested === null ? undefined : present.get(nested.device)
        if (inner !== undefined) await this.take(inner, present, strict)
      }
      this.nesting.learnSwitched(overlay)
      await this.serve(overlay, settings)
      this.refused.delete(device)
      this.log.info({ overlay: name, device }, 'watching')
    } catch (error) {
      if (strict) throw error
      const line = error instanceof LowerwatchError ? error.line : String(error)
      if (this.refused.get(device) === line) return
      this.refused.set(device, line)
      this.log.warn({ overlay: name, device }, `cannot watch: ${line}`)
    }
  }

  private async serve(overlay: OpenOverlay, settings: OverlaySettings): Promise<void> {
    const { device, mounts } = overlay.description
    const name = display(mounts[0]!.mountPoint)
    let lock: Handle | null = null
    try {
      lock = await lockOverlay(device, name)
      await this.modes.switch(overlay, settings.policy)
      const follows = await this.modes.follows(overlay)
      const events = {
        log: (level: 'debug' | 'info' | 'warn', message: string, fields: Record<string, unknown> = {}) =>
          this.log[level]({ overlay: name, ...fields }, message),
        above: () => this.nesting.above(device),
        caughtUp: () => this.nesting.caughtUp(overlay),
        served: (changes: LowerChanges) => this.nesting.forward(device, changes),
        swapping: (swap: Promise<void>) => this.swapBegins(swap),
      }
      const controller = new OverlayController(overlay, settings.policy, events, follows)
      // A vanish policy acts on events, which the kernel keeps to itself.
      if (follows && settings.policy.onVanish === 'keep') {
        this.managed.set(device, { settings, controller, watch: new OverlayWatch(this.stream), lock })
        await this.nesting.tellAbove(device)
        return
      }
      for (const { nested } of overlay.layers) if (nested !== null) await this.nesting.watchFor(nested.device)
      const watch = await this.stream.watch(overlay, controller)
      try {
        await controller.start()
      } catch (error) {
        await watch.close()
        throw isSyscallError(error, 'EPERM') ? notPermitted(name, error) : error
      }
      this.managed.set(device, { settings, controller, watch, lock })
      this.lookForHeld(controller)
      const learning = this.learnRedirects(overlay, controller)
      this.learning.add(learning)
      void learning.finally(() => this.learning.delete(learning))
      await Promise.race([learning, afterMs(redirectPatienceMs)])
    } catch (error) {
      await this.modes.switchBack(overlay)
      lock?.close()
      overlay.close()
      throw error
    }
  }

  private swapBegins(swap: Promise<void>): void {
    this.swaps++
    this.swapping.add(swap)
    const ended = () => {
      this.swapping.delete(swap)
      void this.sync()
    }
    swap.then(ended, ended)
  }

  /**
   * What was pinned before the watch may be stale; the remount cured the rest. One overlay after the other: each
   * takes a look at every process, and none of it may delay a change.
   */
  private lookForHeld(controller: OverlayController): void {
    this.looking = this.looking.then(() => controller.lookForHeld()).catch(() => {})
  }

  private async release(device: string): Promise<void> {
    const managed = this.managed.get(device)
    if (managed === undefined) return
    this.managed.delete(device)
    await managed.watch.close()
    await managed.controller.stop()
    const { overlay } = managed.controller
    await this.modes.switchBack(overlay)
    overlay.close()
    managed.lock.close()
  }

  /** Until it is known that no layer has a redirect, and where one has, a change is not mapped to a name. */
  private async learnRedirects(overlay: OpenOverlay, controller: OverlayController): Promise<void> {
    if (overlay.unmappable !== '') return
    overlay.unmappable = 'not yet known whether a layer has redirects'
    const reason = await scanForRedirects(overlay, { maxDirectories: maxRedirectDirectories }).catch(
      (error) => `cannot look for redirects: ${String(error)}`,
    )
    if (!this.managed.has(overlay.description.device)) return
    overlay.unmappable = reason
    if (reason !== '') controller.markDirty(reason)
  }
}

function notPermitted(name: string, cause: unknown): LowerwatchError {
  return new LowerwatchError('NOT_PERMITTED', `${name}: not permitted to refresh this overlay`, {
    hint: 'run as root, or in the user namespace that mounted it',
    cause,
  })
}

function afterMs(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds).unref())
}
