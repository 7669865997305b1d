// SPDX-License-Identifier: MIT
import { type ByteString, split } from '../bytes.js'
import type { Holder } from '../overlay/types.js'

/** Who holds what, and where held directories were renamed to in a lower. */
export interface Holding {
  holders: Holder[]
  moved: ReadonlyMap<ByteString, Holder[]>
}

export function isAtOrBelow(path: ByteString, top: ByteString): boolean {
  return top === '' || path === top || path.startsWith(`${top}/`)
}

/** Who holds `path` or something below it: a dentry pins its parents. */
export function pinsOf(path: ByteString, { holders, moved }: Holding): Holder[] {
  const pins = holders.filter((holder) => isAtOrBelow(holder.path, path))
  if (pins.length > 0) return pins
  return (moved.get(path) ?? []).filter((pin) => holders.some((holder) => isSame(holder, pin)))
}

/**
 * Who pins what is stale at `path`, else who pins the nearest directory above, which keeps the layers that it merged
 * when it was looked up. That one is named then.
 */
export function attribute(path: ByteString, holding: Holding): { path: ByteString; holders: Holder[] } {
  const pins = pinsOf(path, holding)
  if (pins.length > 0) return { path, holders: pins }
  for (let { directory } = split(path); directory !== ''; { directory } = split(directory)) {
    const above = pinsOf(directory, holding)
    if (above.length > 0) return { path: directory, holders: above }
  }
  // A held directory that was renamed below keeps its new place from being looked up; so does one that was removed
  // together with a file in it that is held: nothing leads from that file to it.
  return { path, holders: holding.holders.filter((holder) => holder.directory || holder.deleted) }
}

/** What is wrong at a place where it is in the way of its lower is kept so by who holds the other. */
export function withPlaces(holding: Holding, places: ReadonlyMap<ByteString, ByteString>): Holding['moved'] {
  const moved = new Map(holding.moved)
  for (const [path, of] of places) if (!moved.has(path)) moved.set(path, pinsOf(of, holding))
  return moved
}

function isSame(a: Holder, b: Holder): boolean {
  return a.pid === b.pid && a.via === b.via && a.fd === b.fd
}
