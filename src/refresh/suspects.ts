// SPDX-License-Identifier: MIT
import { type ByteString, split } from '../bytes.js'
import { Cached, native } from '../native.js'
import type { Holder, OpenOverlay } from '../overlay/types.js'
import type { LowerChanges } from '../watch/changes.js'
import { type Holding, isAtOrBelow, pinsOf } from './attribution.js'

/** Those of `paths` that a change lies below, at, or on the way to. */
export function touchedBy(changes: LowerChanges, paths: Iterable<ByteString>): ByteString[] {
  const all = [...paths]
  if (all.length === 0 || changes.dirtyReason !== '') return all
  const directories = [...changes.directories.keys(), ...changes.dirtyDirectories]
  return all.filter(
    (path) => isOnTheWay(changes, path) || directories.some((directory) => isAtOrBelow(directory, path)),
  )
}

function isOnTheWay(changes: LowerChanges, path: ByteString): boolean {
  for (let at = path; at !== ''; ) {
    const { directory, name } = split(at)
    if (changes.directories.get(directory)?.has(name) || changes.dirtyDirectories.has(directory)) return true
    at = directory
  }
  return false
}

/**
 * What a refresh did not drop: its layers may be those that it merged long ago, also while nothing looks wrong,
 * and a later change below it can show that. Each is remembered until a refresh does drop it.
 */
export class Suspects {
  private readonly pins = new Map<ByteString, Holder[] | null>()
  /** How many there have been. */
  added = 0

  get isEmpty(): boolean {
    return this.pins.size === 0
  }

  add(paths: Iterable<ByteString>): void {
    for (const path of paths) {
      if (path === '' || this.pins.has(path)) continue
      this.pins.set(path, null)
      this.added++
    }
  }

  /** Nobody has asked yet who holds one of them. */
  get areNew(): boolean {
    return [...this.pins.values()].includes(null)
  }

  paths(): Iterable<ByteString> {
    return this.pins.keys()
  }

  clear(): void {
    this.pins.clear()
  }

  /** Empty: nobody, or not asked yet. */
  holdersOf(path: ByteString): Holder[] {
    return this.pins.get(path) ?? []
  }

  holders(): Holder[] {
    return [...this.pins.values()].flatMap((pins) => pins ?? [])
  }

  attribute(holding: Holding): void {
    for (const path of this.pins.keys()) this.pins.set(path, pinsOf(path, holding))
  }

  /** After a refresh: what is not cached is not held any more. */
  dropForgotten(overlay: OpenOverlay): void {
    for (const path of this.pins.keys()) {
      const { directory, name } = split(path)
      if (native.probeCached(overlay.root, directory, [name])[0] === Cached.none) this.pins.delete(path)
    }
  }
}
