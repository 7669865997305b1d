// SPDX-License-Identifier: MIT
import { type ByteString, display, join } from '../bytes.js'
import { isSyscallError } from '../errors.js'
import { type DirectoryEntry, type Handle, native } from '../native.js'
import type { OpenOverlay, StaleEntry } from '../overlay/types.js'
import type { Oracle } from './oracle.js'

/** The listings of one directory; null where it cannot be listed. */
export interface Listings {
  directory: ByteString
  live: DirectoryEntry[] | null
  fresh: DirectoryEntry[] | null
  /** Errno name of the live listing's failure. */
  liveError: string
}

export async function readListings(
  overlay: OpenOverlay,
  oracle: Oracle,
  directory: ByteString,
): Promise<Listings> {
  let liveError = ''
  const list = async (root: Handle, failed: (code: string) => void): Promise<DirectoryEntry[] | null> => {
    try {
      return await native.readDirectory(overlay.lane, root, directory)
    } catch (error) {
      if (!isSyscallError(error, 'ENOENT', 'ENOTDIR', 'ESTALE', 'ELOOP', 'ENODEV')) throw error
      failed(error.code)
      return null
    }
  }
  const [live, fresh] = await Promise.all([
    list(overlay.root, (code) => {
      liveError = code
    }),
    list(oracle.root, () => {}),
  ])
  return { directory, live, fresh, liveError }
}

export function listedNames({ live, fresh }: Listings): Set<ByteString> {
  const names = new Set<ByteString>()
  for (const { name } of fresh ?? []) names.add(name)
  for (const { name } of live ?? []) names.add(name)
  return names
}

/** Names that the one has and the other has not. */
export function listedInOne({ live, fresh }: Listings): ByteString[] {
  const [a, b] = [live, fresh].map((entries) => new Set((entries ?? []).map(({ name }) => name)))
  return [...[...a!].filter((name) => !b!.has(name)), ...[...b!].filter((name) => !a!.has(name))]
}

/** The same names with the same types, whatever the inode numbers. */
export function listTheSame({ live, fresh }: Listings): boolean {
  if (live === null || fresh === null) return live === fresh
  const types = new Map(live.map((entry) => [entry.name, entry.type]))
  return live.length === fresh.length && fresh.every(({ name, type }) => types.get(name) === type)
}

/**
 * What a difference between the listings means. The listing of a merged directory is cached while somebody holds
 * it, and a lookup does not use it: so a lookup of the names that differ tells whether the listing is at fault
 * (`listing`), or the directory itself (`unmerged`), or the name (`negative` or `ghost`, found by its own probe).
 */
export async function compareListings(overlay: OpenOverlay, listings: Listings): Promise<StaleEntry[]> {
  const { directory, live, fresh, liveError } = listings
  if (fresh === null) return []
  if (live === null) {
    return [{ path: directory, kind: 'replaced', detail: `live listing fails with ${liveError}` }]
  }
  const liveTypes = new Map(live.map((entry) => [entry.name, entry.type]))
  const freshTypes = new Map(fresh.map((entry) => [entry.name, entry.type]))
  const missing = fresh.filter((entry) => !liveTypes.has(entry.name)).map((entry) => entry.name)
  const extra = live.filter((entry) => !freshTypes.has(entry.name)).map((entry) => entry.name)
  const retyped = fresh
    .filter(({ name, type }) => liveTypes.has(name) && liveTypes.get(name) !== type)
    .map((entry) => entry.name)
  if (missing.length + extra.length + retyped.length === 0) return []

  const differing = [...missing, ...extra, ...retyped]
  const found = await native.statNames(overlay.lane, overlay.root, directory, differing)
  const shown = new Map(differing.map((name, index) => [name, found[index]]))
  const isShown = (name: ByteString) => typeof shown.get(name) === 'object' && shown.get(name) !== null
  const freshByLookup = [
    ...missing.filter(isShown),
    ...extra.filter((name) => shown.get(name) === null),
    // The lookup agrees with the fresh listing: the listed type alone is old.
    ...retyped.filter((name) => isShown(name) && typeOf(shown.get(name)) === freshTypes.get(name)),
  ]
  const entries: StaleEntry[] = []
  if (freshByLookup.length > 0) {
    entries.push({ path: directory, kind: 'listing', detail: describe(missing, extra, retyped) })
  }
  // A name whose lookup fails is missing from the listing of a merged directory where inode numbers are looked up.
  for (const name of missing) {
    if (typeof shown.get(name) !== 'number') continue
    entries.push({ path: join(directory, name), kind: 'replaced', detail: 'live lookup fails, fresh has it' })
  }
  const hidden = missing.filter((name) => shown.get(name) === null)
  if (hidden.length > 0) {
    entries.push({ path: directory, kind: 'unmerged', detail: describe(hidden, [], []) })
  }
  return entries
}

function typeOf(stat: unknown): number {
  return typeof stat === 'object' && stat !== null && 'mode' in stat
    ? (Number(stat.mode) & 0o170000) >> 12
    : 0
}

function describe(missing: ByteString[], extra: ByteString[], retyped: ByteString[]): string {
  const part = (what: string, names: ByteString[]) =>
    names.length === 0
      ? []
      : [`${what} ${display(names[0]!)}${names.length > 1 ? ` and ${names.length - 1} more` : ''}`]
  return `live listing ${[
    ...part('misses', missing),
    ...part('still has', extra),
    ...part('has the old type of', retyped),
  ].join(', ')}`
}
