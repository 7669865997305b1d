// SPDX-License-Identifier: MIT
import type { ByteString } from '../bytes.js'
import { type Change, Kind } from '../native.js'
import type { OpenLayer } from '../overlay/types.js'

/** Kinds after which a name may be there or not be there any more. */
export const nameKinds = Kind.create | Kind.delete | Kind.movedFrom | Kind.movedTo

/** More are left out: the changes of their names say what changed. */
const maxRenames = 1_024

export interface Rename {
  layer: OpenLayer
  from: ByteString
  to: ByteString
}

/**
 * What changed in the lower layers of one overlay since the last look, by directory and name. Kinds of one
 * name are merged without order, as the kernel merges them: the state is looked at again, never replayed.
 */
export interface LowerChanges {
  /** Directory -> name -> {@link Kind} bits. */
  directories: Map<ByteString, Map<ByteString, number>>
  /** Directories in which anything may have changed. */
  dirtyDirectories: Set<ByteString>
  /** Directories that were renamed within their layer. */
  renames: Rename[]
  /** Anything anywhere may have changed, and why; '' when not. */
  dirtyReason: string
  /** A layer's root is gone. */
  layerGone: boolean
  /** CLOCK_MONOTONIC nanoseconds at which the oldest of them was read. */
  sinceNs: bigint
}

/** Merges changes until somebody takes them. Bounded: what native degraded stays degraded. */
export class PendingChanges {
  private changes = emptyChanges()
  private count = 0

  get isEmpty(): boolean {
    return this.count === 0
  }

  add(change: Change, readAtNs: bigint): void {
    const pending = this.changes
    if (this.count++ === 0) pending.sinceNs = readAtNs
    if (change.kind & Kind.layerGone) pending.layerGone = true
    if (change.kind & (Kind.layerDirty | Kind.layerGone)) {
      pending.dirtyReason ||= dirtyReason(change.kind)
    } else if (change.kind & Kind.directoryDirty) {
      pending.dirtyDirectories.add(change.directory)
    } else {
      addName(pending.directories, change.directory, change.name, change.kind)
    }
  }

  /** Comes with the changes of its two names, which are work to do; this is not. */
  addRename(rename: Rename): void {
    if (this.changes.renames.length < maxRenames) this.changes.renames.push(rename)
  }

  /** Marks the whole overlay: something may be stale that no name tells. */
  addDirty(reason: string, readAtNs: bigint): void {
    if (this.count++ === 0) this.changes.sinceNs = readAtNs
    this.changes.dirtyReason ||= reason
  }

  take(): LowerChanges {
    const taken = this.changes
    this.changes = emptyChanges()
    this.count = 0
    return taken
  }
}

function dirtyReason(kind: number): string {
  if (kind & Kind.layerGone) return 'a layer is gone'
  return kind & Kind.overflow ? 'event queue overflow' : 'too many changes to keep by name'
}

function emptyChanges(): LowerChanges {
  return {
    directories: new Map(),
    dirtyDirectories: new Set(),
    renames: [],
    dirtyReason: '',
    layerGone: false,
    sinceNs: 0n,
  }
}

function addName(
  directories: Map<ByteString, Map<ByteString, number>>,
  directory: ByteString,
  name: ByteString,
  kind: number,
): void {
  let names = directories.get(directory)
  if (names === undefined) {
    names = new Map()
    directories.set(directory, names)
  }
  names.set(name, (names.get(name) ?? 0) | kind)
}

/** Words for the bits of a kind, in the order of {@link Kind}. */
export function kindNames(kind: number): string[] {
  return Object.entries(Kind)
    .filter(([, bit]) => (kind & bit) !== 0)
    .map(([name]) => name)
}
