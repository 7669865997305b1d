// SPDX-License-Identifier: MIT
import { type ByteString, join, split } from '../bytes.js'
import { isSyscallError } from '../errors.js'
import { Cached, type NameFacts, native, type Stat } from '../native.js'
import type { OpenOverlay, StaleEntry } from '../overlay/types.js'
import { Access } from './compare-access.js'
import {
  compareListings,
  type Listings,
  listedInOne,
  listedNames,
  listTheSame,
  readListings,
} from './compare-listing.js'
import { Identity, isDirectory, type Pair } from './identity.js'
import { statInLayer } from './layer-stat.js'
import type { Oracle } from './oracle.js'

/** Names compared at the same time: several calls each are queued on the lane. */
const batch = 512

/** Names that are compared at most to find out whether a held directory is stale. */
const belowLimit = 4_096
const directoryType = 4

/** What was found in one directory of the overlay. */
export interface DirectoryComparison {
  entries: StaleEntry[]
  /**
   * Sub-directories that are right themselves and that the live overlay has cached, or may have: something below
   * them can be stale.
   */
  descend: ByteString[]
  names: number
}

/**
 * Every stale answer for `path`: the name itself, and its listing when it is a directory. Not what leads there,
 * nor what is below. A name that is not cached is not stale, and is not looked up (unless a layer revalidates by
 * itself, which hides what is cached).
 *
 * Extended attributes are not compared: overlayfs keeps none, so the same inode has the same ones.
 */
export async function comparePath(
  overlay: OpenOverlay,
  oracle: Oracle,
  path: ByteString,
  comparison: Comparison = new Comparison(overlay, oracle),
): Promise<StaleEntry[]> {
  if (path === '') return [...(await comparison.root()), ...(await comparison.listing(''))]
  const { directory, name } = split(path)
  const { entries, descend } = await comparison.names(directory, [name])
  return descend.length > 0 ? unique([...entries, ...(await comparison.listing(path))]) : entries
}

/** Compares the live overlay with the oracle, directory by directory, and remembers what it learns of the devices. */
export class Comparison {
  readonly limits = new Set<string>()
  readonly #overlay: OpenOverlay
  readonly #oracle: Oracle
  readonly #identity: Identity
  readonly #access: Access
  readonly #revalidates: boolean

  constructor(overlay: OpenOverlay, oracle: Oracle) {
    this.#overlay = overlay
    this.#oracle = oracle
    this.#identity = new Identity(overlay, oracle)
    this.#access = new Access(overlay, oracle)
    this.#revalidates = overlay.layers.some((layer) => layer.revalidates)
  }

  /** The root of the overlay, which no refresh drops. */
  async root(): Promise<StaleEntry[]> {
    const live = await this.#stat()
    if (live === 'ESTALE') return [{ path: '', kind: 'replaced', detail: 'live answers ESTALE' }]
    const fresh = await native.statAt(this.#overlay.lane, this.#oracle.root, '')
    if (live === null || fresh === null) return []
    const inUpper = this.#overlay.layers.some((layer) => layer.role === 'upper')
    return this.#compareAccess({ path: '', live, fresh, inUpper })
  }

  /** A whole directory: its listing, every name listed in either, and `others`. */
  async directory(directory: ByteString, others: Iterable<ByteString>): Promise<DirectoryComparison> {
    const listings = await readListings(this.#overlay, this.#oracle, directory)
    const names = listedNames(listings)
    for (const name of others) names.add(name)
    const result = await this.names(directory, [...names])
    result.entries.push(...(await this.#differences(listings)))
    result.entries = unique(result.entries)
    return result
  }

  /**
   * What is stale below a directory that may be merged with other layers than a fresh mount merges: all of it, because
   * one difference can have another holder than the next. Its sub-directories are looked up, because such a directory
   * gives them layers that no fresh mount gives.
   */
  async below(top: ByteString): Promise<StaleEntry[]> {
    let left = belowLimit
    const all: StaleEntry[] = []
    const pending = [top]
    for (let next = 0; next < pending.length; next++) {
      const directory = pending[next]!
      const listings = await readListings(this.#overlay, this.#oracle, directory)
      const names = [...listedNames(listings)]
      left -= names.length + 1
      if (left < 0)
        return unique([
          ...all,
          { path: top, kind: 'unmerged', detail: 'it is held, and too large to compare', unsure: true },
        ])
      const directories = (listings.fresh ?? []).filter(({ type }) => type === directoryType)
      const inside = directories.map(({ name }) => name)
      await native.statNames(this.#overlay.lane, this.#overlay.root, directory, inside)
      const { entries, descend } = await this.names(directory, names)
      all.push(...entries, ...(await this.#differences(listings)))
      pending.push(...descend)
    }
    return unique(all)
  }

  /**
   * A name of the upper whose lookup fails although nothing is cached for it: a file that was copied up and renamed
   * in the lower layer, whose other name is cached (overlayfs then answers ESTALE; measured on 6.18).
   */
  async unreachable(path: ByteString): Promise<StaleEntry[]> {
    const { lane, root, layers } = this.#overlay
    const upper = layers.find((layer) => layer.role === 'upper')
    const stat = upper === undefined ? null : await statInLayer(this.#overlay, upper.root, path)
    if (stat === null || isDirectory(stat)) return []
    try {
      await native.statAt(lane, root, path)
      return []
    } catch (error) {
      if (isSyscallError(error, 'ELOOP')) return []
      if (!isSyscallError(error, 'ESTALE')) throw error
      return [{ path, kind: 'replaced', detail: 'live answers ESTALE, fresh has it' }]
    }
  }

  async listing(directory: ByteString): Promise<StaleEntry[]> {
    return this.#differences(await readListings(this.#overlay, this.#oracle, directory))
  }

  /** These names of a directory. */
  async names(directory: ByteString, names: ByteString[]): Promise<DirectoryComparison> {
    const result: DirectoryComparison = { entries: [], descend: [], names: names.length }
    const upper = this.#overlay.layers.find((layer) => layer.role === 'upper')
    const roots = upper ? [this.#oracle.root, upper.root] : [this.#oracle.root]
    const [facts] = await native.examine(
      this.#overlay.lane,
      this.#overlay.root,
      roots,
      [{ directory, names }],
      { revalidates: this.#revalidates },
    )
    const pairs: Pair[] = []
    for (const found of facts?.names ?? []) {
      const path = join(directory, names[found.index]!)
      const pair = this.#present(path, found, result)
      if (pair === null) continue
      pairs.push(pair)
    }
    for (let at = 0; at < pairs.length; at += batch) {
      const some = pairs.slice(at, at + batch)
      const compared = await Promise.all(some.map((pair) => this.#compare(pair)))
      for (const [index, entries] of compared.entries()) {
        const { path, live, fresh } = some[index]!
        result.entries.push(...entries)
        // Below the wrong directory all is wrong, and the directory is what to name.
        const wrong = entries.some(({ kind }) => kind === 'replaced' || kind === 'unmerged')
        if (!wrong && isDirectory(live) && isDirectory(fresh)) result.descend.push(path)
      }
    }
    return result
  }

  /** Existence. A pair when both have the name. */
  #present(path: ByteString, found: NameFacts, result: DirectoryComparison): Pair | null {
    const fresh = found.layers[0] ?? null
    const { live, cached } = found
    const report = (kind: StaleEntry['kind'], detail: string) => {
      result.entries.push({ path, kind, detail })
      return null
    }
    if (cached === Cached.none) return null
    if (cached === Cached.negative)
      return fresh === null ? null : report('negative', 'live answers ENOENT, fresh has it')
    if (cached === Cached.stale || live === null)
      return fresh === null
        ? report('ghost', 'live answers ESTALE, fresh ENOENT')
        : report('replaced', 'live answers ESTALE, fresh has it')
    if (fresh === null) return report('ghost', 'live has it, fresh answers ENOENT')
    const inUpper = this.#overlay.layers.some((layer) => layer.role === 'upper') && found.layers[1] != null
    return { path, live, fresh, inUpper }
  }

  async #compare(pair: Pair): Promise<StaleEntry[]> {
    const verdict = await this.#identity.compare(pair)
    if (verdict.kind === 'unknown')
      this.limits.add(`the inode of some names was not compared: ${verdict.reason}`)
    else if (verdict.kind !== 'same') return [{ path: pair.path, kind: verdict.kind, detail: verdict.detail }]
    return this.#compareAccess(pair)
  }

  async #compareAccess(pair: Pair): Promise<StaleEntry[]> {
    const detail = await this.#access.compare(pair)
    if (this.#access.unable !== '') this.limits.add(this.#access.unable)
    return detail === null ? [] : [{ path: pair.path, kind: 'attributes', detail }]
  }

  /**
   * Differences of the listings, and of names that they show with different inodes although nobody has looked them
   * up: then the directory may be merged with the wrong one.
   *
   * A lookup of what merely changes between two readings would be cached, and be stale at the next change. So only
   * what a second reading finds again is looked up.
   */
  async #differences(first: Listings): Promise<StaleEntry[]> {
    const suspects = this.#otherInodes(first)
    if (suspects.size === 0 && listTheSame(first)) return []
    await this.#oracle.forget()
    const { directory } = first
    const second = await readListings(this.#overlay, this.#oracle, directory)
    const entries = await compareListings(this.#overlay, second)
    const again = this.#otherInodes(second)
    const others = [...suspects.keys()].filter((name) => again.get(name) === suspects.get(name))
    // A name that only one of the two lists may be cached by nobody, and be found by everybody who looks it up.
    const names = [...new Set([...others, ...listedInOne(second)])]
    if (names.length === 0) return entries
    await native.statNames(this.#overlay.lane, this.#overlay.root, directory, names)
    return [...entries, ...(await this.names(directory, names)).entries]
  }

  /** Names that are not cached and have another inode in the live listing than in the fresh one, with both. */
  #otherInodes({ directory, live, fresh }: Listings): Map<ByteString, string> {
    const numbers = new Map((live ?? []).map((entry) => [entry.name, entry.ino]))
    const differ = (fresh ?? []).filter(({ name, ino }) => numbers.has(name) && numbers.get(name) !== ino)
    // What is cached is compared anyway; where a layer revalidates everything has been looked up.
    if (differ.length === 0 || this.#revalidates) return new Map()
    const names = differ.map((entry) => entry.name)
    const cached = native.probeCached(this.#overlay.root, directory, names)
    const uncached = differ.filter((_, index) => cached[index] === Cached.none)
    return new Map(uncached.map(({ name, ino }) => [name, `${numbers.get(name)} ${ino}`]))
  }

  async #stat(): Promise<Stat | null | 'ESTALE'> {
    try {
      return await native.statAt(this.#overlay.lane, this.#overlay.root, '')
    } catch (error) {
      if (isSyscallError(error, 'ESTALE')) return 'ESTALE'
      throw error
    }
  }
}

/** One entry per path and kind, the first of each. */
export function unique(entries: StaleEntry[]): StaleEntry[] {
  const seen = new Set<string>()
  return entries.filter(({ path, kind }) => {
    const key = `${kind} ${path}`
    if (seen.has(key)) return false
    seen.add(key)
    return true
  })
}
