// SPDX-License-Identifier: MIT
import { type ByteString, join, split } from '../bytes.js'
import { grantsByMode } from '../coherence/compare-access.js'
import type { Examination } from '../coherence/examine.js'
import { findHolders } from '../coherence/holders.js'
import { type StaleListing, staleListings } from '../coherence/listing.js'
import type { Oracle } from '../coherence/oracle.js'
import { movedPins } from '../coherence/pinned.js'
import { compareAll, compareLookups } from '../coherence/verify.js'
import { Cached, native } from '../native.js'
import type { Holder, OpenOverlay, StaleEntry } from '../overlay/types.js'
import { isAtOrBelow } from './attribution.js'
import { Budget } from './budget.js'

/** What a look found. */
export interface Look {
  checked: { paths: Set<ByteString>; listings: Set<ByteString> }
  /** Pinned dentries that are stale. */
  entries: StaleEntry[]
  /** Held listings that are stale, and may be cured by a nudge. */
  listings: StaleListing[]
  /** What is held where it is now, perhaps with other layers. */
  cached: ByteString[]
  /** Who holds what, when that was asked. */
  holders: Holder[] | null
}

/** Where names were renamed to, as many as are looked at one by one. */
const renamedLimit = 4_096

/**
 * Looks for what holders keep stale. Listing a directory, and searching every process, cost more than a refresh
 * and must not delay one: they have budgets of their own, and merge while they wait.
 */
export class HeldLooks {
  private everything = false
  private readonly renamed = new Set<ByteString>()
  private lookups = new Set<ByteString>()
  /** Cached where they were renamed to: their modes and owners may be of before. */
  private files = new Set<ByteString>()
  private searching: Promise<void> | null = null
  /** What the last search found, until it has been compared; or why it failed. */
  private found: { holders: Holder[]; renamed: ByteString[] } | { error: unknown } | null = null
  /** Where held directories were when they were last searched, and who holds them. */
  moved: ReadonlyMap<ByteString, Holder[]> = new Map()
  private directories = new Map<ByteString, Set<ByteString>>()
  private readonly listingBudget: Budget
  private readonly searchBudget: Budget

  constructor(
    private readonly overlay: OpenOverlay,
    private readonly oracle: () => Promise<Oracle>,
    share: number,
    private readonly suspects: () => Iterable<ByteString>,
    private readonly searched: () => void,
  ) {
    this.listingBudget = new Budget(share)
    this.searchBudget = new Budget(share)
  }

  add(found: Examination): void {
    if (found.unknownReason !== '' || found.movedDirectories.length > 0) this.everything = true
    this.addRenamed(found.movedDirectories)
    for (const [directory, names] of found.cachedDirectories) this.addListing(directory, names)
  }

  /** @param names - That may be listed wrongly; empty: any */
  addListing(directory: ByteString, names: ByteString[]): void {
    const known = this.directories.get(directory)
    if (names.length === 0 || known?.size === 0) this.directories.set(directory, new Set())
    else if (known === undefined) this.directories.set(directory, new Set(names))
    else for (const name of names) known.add(name)
  }

  /** Directories that may answer with layers of long ago, below which something changed. */
  addLookups(paths: ByteString[]): void {
    for (const path of paths) this.lookups.add(path)
  }

  addEverything(): void {
    this.everything = true
  }

  /** Files came to these paths: where one is cached, that may be the inode of before, held until just now. */
  addMoved(paths: ByteString[]): void {
    for (const [directory, names] of byDirectory(paths.slice(0, renamedLimit))) {
      const cached = native.probeCached(this.overlay.root, directory, names)
      for (const [index, name] of names.entries())
        if (cached[index] === Cached.positive) this.files.add(join(directory, name))
    }
  }

  /** Files came to these paths, and one that is held may be among them: its inode answers there when it is looked up. */
  addMovedHeld(paths: ByteString[]): void {
    this.addRenamed(paths)
    this.everything = true
  }

  get isEmpty(): boolean {
    if (this.searching !== null || this.found !== null) return false
    return !this.everything && !this.mayLook
  }

  private get mayLook(): boolean {
    return this.directories.size + this.lookups.size + this.files.size > 0
  }

  /** Then the end of the search is what to wait for. */
  get isSearching(): boolean {
    return this.searching !== null
  }

  /** Milliseconds until a look may begin; 0 for now. Only meaningful when there is one to make. */
  waitMs(): number {
    const listing = this.mayLook ? this.listingBudget.waitMs() : Number.POSITIVE_INFINITY
    if (this.found !== null) return 0
    const search =
      this.everything && this.searching === null ? this.searchBudget.waitMs() : Number.POSITIVE_INFINITY
    return Math.min(listing, search)
  }

  get isDue(): boolean {
    return !this.isEmpty && this.waitMs() === 0
  }

  /** Makes the looks whose budget allows it. */
  async look(): Promise<Look> {
    const checked = { paths: new Set<ByteString>(), listings: new Set<ByteString>() }
    const look: Look = { checked, entries: [], listings: [], cached: [], holders: null }
    if (this.directories.size > 0 && this.listingBudget.waitMs() === 0) {
      const directories = new Map([...this.directories].map(([directory, names]) => [directory, [...names]]))
      this.directories = new Map()
      await charged(this.listingBudget, () => this.list(directories, look))
    }
    if (this.files.size > 0 && this.listingBudget.waitMs() === 0) {
      const paths = this.files
      this.files = new Set()
      await charged(this.listingBudget, () => this.askModes(paths))
    }
    if (this.lookups.size > 0 && this.listingBudget.waitMs() === 0) {
      const paths = this.lookups
      this.lookups = new Set()
      await charged(this.listingBudget, () => this.lookUp(paths, look))
    }
    if (this.everything && this.searching === null && this.searchBudget.waitMs() === 0) this.beginSearch()
    const { found } = this
    this.found = null
    if (found !== null && 'error' in found) throw found.error
    if (found !== null) {
      try {
        await charged(this.searchBudget, () => this.compare(found.holders, found.renamed, look))
      } catch (error) {
        this.lookAgain(found.renamed)
        throw error
      }
    }
    return look
  }

  /** Resolves when a look can be made. */
  async ready(): Promise<void> {
    if (this.searching !== null) await this.searching
    else await new Promise((resolve) => setTimeout(resolve, this.waitMs()))
  }

  /** Processes are many: changes are served meanwhile. One that holds a thing after this was told has it afresh. */
  private beginSearch(): void {
    this.everything = false
    const renamed = [...this.renamed]
    this.renamed.clear()
    this.searching = charged(this.searchBudget, async () => {
      try {
        const { holders } = await findHolders(this.overlay)
        this.found = { holders, renamed }
      } catch (error) {
        this.lookAgain(renamed)
        this.found = { error }
      }
    }).finally(() => {
      this.searching = null
      this.searched()
    })
  }

  private lookAgain(renamed: ByteString[]): void {
    this.addRenamed(renamed)
    this.everything = true
  }

  private addRenamed(paths: ByteString[]): void {
    for (const path of paths) if (this.renamed.size < renamedLimit) this.renamed.add(path)
  }

  private async list(directories: Map<ByteString, ByteString[]>, look: Look): Promise<void> {
    const { checked, stale } = await staleListings(this.overlay, directories, this.oracle)
    look.listings.push(...stale)
    for (const directory of checked) look.checked.listings.add(directory)
  }

  /** Most grant what they should; only for the others is the fresh mount asked. */
  private async askModes(paths: Iterable<ByteString>): Promise<void> {
    for (const path of paths) if (!(await grantsByMode(this.overlay, path))) this.lookups.add(path)
  }

  private async lookUp(paths: Iterable<ByteString>, look: Look): Promise<void> {
    look.entries.push(...(await compareLookups(this.overlay, paths, this.oracle)))
    for (const path of paths) look.checked.paths.add(path)
  }

  /** Everything that a process has open: the only listings that can be held, the only dentries that can be pinned. */
  private async compare(holders: Holder[], renamed: ByteString[], look: Look): Promise<void> {
    look.holders = holders
    this.moved = new Map()
    if (holders.length === 0) return
    this.moved = await movedPins(this.overlay, holders, renamed)
    // What may have other layers is compared with all that is below it: less would take a finding back.
    // A file that was removed leads to no directory that it pins, and that can be in the way of any of these.
    const anywhere = holders.some(({ directory, deleted }) => deleted && !directory)
    const here = renamed.filter(
      (path) => anywhere || holders.some((holder) => isAtOrBelow(holder.path, path)),
    )
    const deep = new Set([...here, ...this.moved.keys(), ...this.suspects()])
    const paths = new Set(holders.map((holder) => holder.path).filter((path) => !deep.has(path)))
    await this.lookUp(deep, look)
    look.cached.push(...this.moved.keys())
    look.entries.push(...(await compareAll(this.overlay, paths, this.oracle, 'names')))
    for (const path of paths) look.checked.paths.add(path)
    const open = holders.filter((holder) => holder.directory && holder.via === 'fd')
    await this.list(new Map(open.map((holder) => [holder.path, []])), look)
    // A listing of layers that still merge can be nudged; one of a layer that is gone is as stale as its dentry.
    const mergedOnes = new Set(look.listings.map((listing) => listing.directory))
    look.entries = look.entries.filter(({ kind, path }) => kind !== 'listing' || !mergedOnes.has(path))
  }
}

function byDirectory(paths: ByteString[]): Map<ByteString, ByteString[]> {
  const groups = new Map<ByteString, ByteString[]>()
  for (const path of paths) {
    const { directory, name } = split(path)
    const names = groups.get(directory)
    if (names === undefined) groups.set(directory, [name])
    else names.push(name)
  }
  return groups
}

async function charged(budget: Budget, work: () => Promise<void>): Promise<void> {
  const startedAt = performance.now()
  const usedBefore = process.cpuUsage()
  try {
    await work()
  } finally {
    // The process may have done other things meanwhile, and the machine too.
    const { user, system } = process.cpuUsage(usedBefore)
    budget.charge(Math.min(performance.now() - startedAt, (user + system) / 1e3))
  }
}
