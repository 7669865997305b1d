// SPDX-License-Identifier: MIT
import { readlink } from 'node:fs/promises'
import { type ByteString, split } from '../bytes.js'
import type { Holder, StaleEntry } from '../overlay/types.js'

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

const firstRetryMs = 2
const lastRetryMs = 200
/** Where no holder can be found, each retry costs the overlay its caches: rarely. */
const lastBlindRetryMs = 60_000

/** Comparing costs more than asking whether the holders still hold. */
const looksPerComparison = 5
/** With growing pauses these take some two seconds. */
const youngLooks = 16

/** Staleness that is held, until who holds it lets go. */
export class UnresolvedStaleness {
  private readonly entries = new Map<string, Unresolved>()
  private pins: { link: string; target: string }[] = []
  private delayMs = firstRetryMs
  private timer: NodeJS.Timeout | null = null

  private looks = 0

  /** @param retry - Looks again at {@link paths}, after a refresh when a holder has `letGo`. */
  constructor(private readonly retry: (letGo: boolean) => void) {}

  get isEmpty(): boolean {
    return this.entries.size === 0
  }

  list(): Unresolved[] {
    return [...this.entries.values()]
  }

  paths(): ByteString[] {
    return [...new Set(this.list().flatMap((entry) => [entry.path, ...entry.causes]))]
  }

  /**
   * Replaces what is known about what was `checked` by `entries`.
   *
   * @returns entries that were not known before
   */
  async update(checked: Checked, entries: StaleEntry[], holders: Holder[]): Promise<Unresolved[]> {
    const before = new Map(this.entries)
    for (const [key, entry] of before) {
      const { path, causes } = entry
      const looked = [path, ...causes].some((at) => checked.paths.has(at))
      if (looked || (entry.kind === 'listing' && checked.listings.has(path))) this.entries.delete(key)
    }
    const added: Unresolved[] = []
    for (const entry of entries) {
      const { path, holders: pins } = attribute(entry.path, holders)
      const key = `${entry.kind} ${path}`
      const known = this.entries.get(key) ?? before.get(key)
      const causes = new Set([...(this.entries.get(key)?.causes ?? []), entry.path])
      const unresolved = { ...entry, path, causes, sinceMs: known?.sinceMs ?? Date.now(), holders: pins }
      this.entries.set(key, unresolved)
      if (known === undefined) added.push(unresolved)
    }
    await this.remember()
    if (added.length > 0) {
      this.delayMs = firstRetryMs
      this.looks = 0
    }
    this.schedule()
    return added
  }

  close(): void {
    if (this.timer !== null) clearTimeout(this.timer)
    this.entries.clear()
  }

  private async remember(): Promise<void> {
    const links = new Set(this.list().flatMap((entry) => entry.holders.map(procLink)))
    this.pins = []
    for (const link of links) {
      const target = await readlink(link, 'latin1').catch(() => null)
      if (target !== null) this.pins.push({ link, target })
    }
  }

  private schedule(): void {
    if (this.timer !== null) clearTimeout(this.timer)
    this.timer = null
    if (this.isEmpty) return
    this.timer = setTimeout(() => void this.look(), this.delayMs)
    this.timer.unref()
    this.delayMs = Math.min(this.delayMs * 1.5, this.pins.length > 0 ? lastRetryMs : lastBlindRetryMs)
  }

  /** Looks now instead of in a while: has a holder let go, or is it right by now? */
  async lookNow(): Promise<void> {
    if (!this.isEmpty) this.retry(!(await this.everyPinHolds()))
  }

  private async look(): Promise<void> {
    const held = (await this.everyPinHolds()) && this.pins.length > 0
    // What is held can become right in another way, for example by a change through the overlay.
    // A pin may also be a reader that comes again and again, below a directory that is held: at first refresh anyway.
    const young = ++this.looks <= youngLooks
    if (!held || young || this.looks % looksPerComparison === 0) this.retry(!held || young)
    else this.schedule()
  }

  private async everyPinHolds(): Promise<boolean> {
    for (const { link, target } of this.pins) {
      if ((await readlink(link, 'latin1').catch(() => null)) !== target) return false
    }
    return true
  }
}

/**
 * Who pins what is stale at `path`: who holds it or something below it (a dentry pins its parents), else who holds
 * the nearest directory above, which keeps the layers that it merged when it was looked up. That one is named then.
 */
function attribute(path: ByteString, holders: Holder[]): { path: ByteString; holders: Holder[] } {
  const inside = `${path}/`
  const pins = holders.filter(
    (holder) => path === '' || holder.path === path || holder.path.startsWith(inside),
  )
  if (pins.length > 0) return { path, holders: pins }
  for (let { directory } = split(path); directory !== ''; { directory } = split(directory)) {
    const above = holders.filter((holder) => holder.path === directory)
    if (above.length > 0) return { path: directory, holders: above }
  }
  // A held directory that was renamed below keeps its new place from being looked up.
  return { path, holders: holders.filter((holder) => holder.directory) }
}

function procLink(holder: Holder): string {
  if (holder.via === 'fd') return `/proc/${holder.pid}/fd/${holder.fd}`
  return holder.via === 'map' ? `/proc/${holder.pid}/exe` : `/proc/${holder.pid}/${holder.via}`
}
