// SPDX-License-Identifier: MIT
import { readlink } from 'node:fs/promises'
import { type ByteString, display } from '../bytes.js'
import { procLink } from '../coherence/holders.js'
import type { Holder, StaleEntry } from '../overlay/types.js'
import { attribute, type Holding, pinsOf } from './attribution.js'
import { Suspects } from './suspects.js'

/** Something that stays stale although it was refreshed, and who keeps it so. */
export interface Unresolved extends StaleEntry {
  /** Milliseconds since the epoch. */
  sinceMs: number
  holders: Holder[]
  /** Where it shows: `path`, or names below it when `path` is a directory that is pinned with what it merged. */
  causes: Set<ByteString>
}

/** What has been looked at: paths in every respect, or only listings of directories. */
export interface Checked {
  paths: ReadonlySet<ByteString>
  listings: ReadonlySet<ByteString>
}

/** Looked at one by one; the path that is named is compared with all that is below it anyway. */
const causesLimit = 16

const firstRetryMs = 2
const lastRetryMs = 200
/** Where no holder can be found, each retry costs the overlay its caches: rarely. */
const lastBlindRetryMs = 60_000

/** Comparing costs more than asking whether the holders still hold. */
const looksPerComparison = 5
/** With growing pauses these take some two seconds. */
const youngLooks = 16

const nobody: Holding = { holders: [], moved: new Map() }

/** Staleness that is held, until who holds it lets go. */
export class UnresolvedStaleness {
  readonly suspects = new Suspects()
  private readonly entries = new Map<string, Unresolved>()
  private inTheWay = new Map<ByteString, Unresolved & { of: ByteString }>()
  private pins: { link: string; target: string }[] = []
  private delayMs = firstRetryMs
  private timer: NodeJS.Timeout | null = null

  private looks = 0
  private closed = false

  /** @param retry - Looks again at {@link paths}, after a refresh when a holder has `letGo`. */
  constructor(private readonly retry: (letGo: boolean) => void) {}

  get isEmpty(): boolean {
    return this.entries.size === 0 && this.suspects.isEmpty
  }

  list(): Unresolved[] {
    const named = new Set([...this.entries.values()].map(({ path }) => path))
    const inTheWay = [...this.inTheWay.values()]
      .map((entry) => ({ ...entry, holders: this.suspects.holdersOf(entry.of) }))
      .filter(({ path, holders }) => !named.has(path) && holders.length > 0)
    return [...this.entries.values(), ...inTheWay]
  }

  /**
   * Replaces what is known of suspects that still merge what went elsewhere: whichever of the two is looked up first
   * has it, and the other answers ESTALE.
   *
   * @param places - With the suspect of each
   * @returns those that were not known before
   */
  setInTheWay(places: ReadonlyMap<ByteString, ByteString>): Unresolved[] {
    const before = this.inTheWay
    const shown = new Set(this.list().map(({ path }) => path))
    this.inTheWay = new Map()
    const add = (path: ByteString, of: ByteString, detail: string) => {
      const sinceMs = before.get(path)?.sinceMs ?? Date.now()
      this.inTheWay.set(path, { path, of, kind: 'replaced', detail, sinceMs, holders: [], causes: new Set() })
    }
    for (const [path, of] of places) {
      add(path, of, `${display(of)}, which is held, merges it still: ESTALE here or there`)
      add(of, of, `held, merges still what is ${display(path)} now: ESTALE here or there`)
    }
    return this.list().filter(({ path }) => this.inTheWay.has(path) && !shown.has(path))
  }

  paths(): ByteString[] {
    return [...new Set(this.list().flatMap((entry) => [entry.path, ...entry.causes]))]
  }

  /**
   * Replaces what is known about what was `checked` by `entries`.
   *
   * @param holding - Null: not asked, because there is nothing to attribute
   * @returns entries for paths that were not named before
   */
  async update(checked: Checked, entries: StaleEntry[], holding: Holding | null): Promise<Unresolved[]> {
    const before = new Map(this.entries)
    const named = new Set(this.list().map(({ path }) => path))
    for (const [key, entry] of before) {
      const { path, causes } = entry
      const looked = [path, ...causes].some((at) => checked.paths.has(at))
      if (looked || (entry.kind === 'listing' && checked.listings.has(path))) this.entries.delete(key)
    }
    const added: Unresolved[] = []
    for (const entry of entries) {
      if (entry.unsure && pinsOf(entry.path, holding ?? nobody).length === 0) continue
      const { path, holders: pins } = attribute(entry.path, holding ?? nobody)
      const key = `${entry.kind} ${path}`
      const known = this.entries.get(key) ?? before.get(key)
      const causes = new Set([...(this.entries.get(key)?.causes ?? []), entry.path].slice(0, causesLimit))
      const unresolved = { ...entry, path, causes, sinceMs: known?.sinceMs ?? Date.now(), holders: pins }
      this.entries.set(key, unresolved)
      this.suspects.add(causes.has(entry.path) ? [path, entry.path] : [path])
      // In what respect it is wrong can depend on what was looked up last.
      if (!named.has(path)) added.push(unresolved)
    }
    if (this.closed) return []
    if (holding !== null) {
      this.suspects.attribute(holding)
      await this.remember()
    }
    if (added.length > 0) {
      this.delayMs = firstRetryMs
      this.looks = 0
    }
    // Changes come all the time: they must not put off what looks whether a holder has let go.
    if (added.length > 0 || this.timer === null) this.schedule()
    return added
  }

  close(): void {
    this.closed = true
    if (this.timer !== null) clearTimeout(this.timer)
    this.timer = null
    this.entries.clear()
    this.inTheWay.clear()
    this.suspects.clear()
  }

  private async remember(): Promise<void> {
    const holders = [...this.list().flatMap((entry) => entry.holders), ...this.suspects.holders()]
    const links = new Set(holders.map(procLink))
    this.pins = []
    for (const link of links) {
      const target = await readlink(link, 'latin1').catch(() => null)
      if (target !== null) this.pins.push({ link, target })
    }
  }

  private schedule(): void {
    if (this.timer !== null) clearTimeout(this.timer)
    this.timer = null
    if (this.isEmpty || this.closed) return
    this.timer = setTimeout(() => {
      this.timer = null
      void this.look()
    }, this.delayMs)
    this.timer.unref()
    this.delayMs = Math.min(this.delayMs * 1.5, this.pins.length > 0 ? lastRetryMs : lastBlindRetryMs)
  }

  /** Looks now instead of in a while: has a holder let go, or is it right by now? */
  async lookNow(): Promise<void> {
    if (!this.isEmpty) this.retry(!(await this.everyPinHolds()))
  }

  private async look(): Promise<void> {
    if (this.isEmpty || this.closed) return
    const held = (await this.everyPinHolds()) && this.pins.length > 0
    const young = ++this.looks <= youngLooks
    if (this.entries.size === 0) this.lookAtSuspects(held, young)
    // What is held can become right in another way, for example by a change through the overlay.
    // A pin may also be a reader that comes again and again, below a directory that is held: at first refresh anyway.
    else if (!held || young || this.looks % looksPerComparison === 0) this.retry(!held || young)
    else this.schedule()
  }

  /** Nothing looks wrong, and what changes is compared when it changes: all that matters is when they let go. */
  private lookAtSuspects(held: boolean, young: boolean): void {
    // A search is on its way.
    if (held || this.suspects.areNew) this.schedule()
    else if (this.pins.length > 0 || young) this.retry(true)
    // Nobody holds them, and every refresh found them cached again: they are read all the time.
    else this.suspects.clear()
  }

  private async everyPinHolds(): Promise<boolean> {
    for (const { link, target } of this.pins) {
      if ((await readlink(link, 'latin1').catch(() => null)) !== target) return false
    }
    return true
  }
}
