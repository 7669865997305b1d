// SPDX-License-Identifier: MIT
import type { ByteString } from '../bytes.js'
import type { Examination } from '../coherence/examine.js'
import { findHolders } from '../coherence/holders.js'
import { type StaleListing, staleListings } from '../coherence/listing.js'
import type { Oracle } from '../coherence/oracle.js'
import { compareAll } from '../coherence/verify.js'
import { isSyscallError } from '../errors.js'
import { native } from '../native.js'
import type { OpenOverlay, StaleEntry } from '../overlay/types.js'
import { Budget } from './budget.js'

/** What a look found. */
export interface Look {
  checked: { paths: Set<ByteString>; listings: Set<ByteString> }
  /** Pinned dentries that are stale. */
  entries: StaleEntry[]
  /** Held listings that are stale, and may be cured by a nudge. */
  listings: StaleListing[]
}

/**
 * Looks for what holders keep stale. Listing a directory, and searching every process, cost more than a refresh
 * and must not delay one: they have budgets of their own, and merge while they wait.
 */
export class HeldLooks {
  private everything = false
  private readonly moved = new Set<ByteString>()
  private directories = new Map<ByteString, Set<ByteString>>()
  private readonly listingBudget: Budget
  private readonly searchBudget: Budget

  constructor(
    private readonly overlay: OpenOverlay,
    private readonly oracle: () => Promise<Oracle>,
    share: number,
  ) {
    this.listingBudget = new Budget(share)
    this.searchBudget = new Budget(share)
  }

  add(found: Examination): void {
    if (found.unknownReason !== '' || found.movedDirectories.length > 0) this.everything = true
    for (const path of found.movedDirectories) this.moved.add(path)
    for (const [directory, names] of found.cachedDirectories) {
      const known = this.directories.get(directory)
      if (names.length === 0 || known?.size === 0) this.directories.set(directory, new Set())
      else if (known === undefined) this.directories.set(directory, new Set(names))
      else for (const name of names) known.add(name)
    }
  }

  addEverything(): void {
    this.everything = true
  }

  get isEmpty(): boolean {
    return !this.everything && this.directories.size === 0
  }

  /** Milliseconds until a look may begin; 0 for now. Only meaningful when there is one to make. */
  waitMs(): number {
    const listing = this.directories.size > 0 ? this.listingBudget.waitMs() : Number.POSITIVE_INFINITY
    const search = this.everything ? this.searchBudget.waitMs() : Number.POSITIVE_INFINITY
    return Math.min(listing, search)
  }

  get isDue(): boolean {
    return !this.isEmpty && this.waitMs() === 0
  }

  /** Makes the looks whose budget allows it. */
  async look(): Promise<Look> {
    const look: Look = { checked: { paths: new Set(), listings: new Set() }, entries: [], listings: [] }
    if (this.directories.size > 0 && this.listingBudget.waitMs() === 0) {
      const directories = new Map([...this.directories].map(([directory, names]) => [directory, [...names]]))
      this.directories = new Map()
      await charged(this.listingBudget, () => this.list(directories, look))
    }
    if (this.everything && this.searchBudget.waitMs() === 0) {
      this.everything = false
      await charged(this.searchBudget, () => this.search(look))
    }
    return look
  }

  private async list(directories: Map<ByteString, ByteString[]>, look: Look): Promise<void> {
    const { checked, stale } = await staleListings(this.overlay, directories, this.oracle)
    look.listings.push(...stale)
    for (const directory of checked) look.checked.listings.add(directory)
  }

  /**
   * A directory that is held stays the same inode of the overlay when it is renamed below: the look-up at its new
   * place moves the dentry there with the layers that it merged before, or fails with ESTALE. False: ESTALE.
   */
  private async lookUp(path: ByteString): Promise<boolean> {
    try {
      await native.statAt(this.overlay.lane, this.overlay.root, path)
      return true
    } catch (error) {
      if (isSyscallError(error, 'ESTALE')) return false
      if (isSyscallError(error)) return true
      throw error
    }
  }

  /** Everything that a process has open: the only listings that can be held, the only dentries that can be pinned. */
  private async search(look: Look): Promise<void> {
    const { holders } = await findHolders(this.overlay)
    const moved = [...this.moved]
    this.moved.clear()
    if (holders.length === 0) return
    const paths = new Set(holders.map((holder) => holder.path))
    for (const path of moved) {
      if (await this.lookUp(path)) paths.add(path)
      else
        look.entries.push({
          path,
          kind: 'replaced',
          detail: 'live answers ESTALE: a held directory came here',
        })
      look.checked.paths.add(path)
    }
    const entries = await compareAll(this.overlay, paths, this.oracle)
    for (const path of paths) look.checked.paths.add(path)
    const open = holders.filter((holder) => holder.directory && holder.via === 'fd')
    await this.list(new Map(open.map((holder) => [holder.path, []])), look)
    // A listing of layers that still merge can be nudged; one of a layer that is gone is as stale as its dentry.
    const mergedOnes = new Set(look.listings.map((listing) => listing.directory))
    look.entries.push(...entries.filter(({ kind, path }) => kind !== 'listing' || !mergedOnes.has(path)))
  }
}

async function charged(budget: Budget, work: () => Promise<void>): Promise<void> {
  const startedAt = performance.now()
  try {
    await work()
  } finally {
    budget.charge(performance.now() - startedAt)
  }
}
