// SPDX-License-Identifier: MIT
import type { Actor } from '../fixture/actor.js'
import type { Verdict } from '../fixture/eventually.js'
import type { LowerFs } from '../fixture/lowers.js'
import type { Overlay } from '../fixture/overlay.js'

/** What a case works on while it runs. */
export interface Scene {
  overlay: Overlay
  /** Keeps what {@link Case.holder} says; null when the case has none, or when a fresh mount is being looked at. */
  holder: Actor | null
  /** Descriptor that the holder keeps, -1 when it keeps none. */
  held: number
  /** A reader without privileges. Only in cases that ask for one. */
  reader: Actor | null
  /** Another process, for changes that node:fs cannot make. */
  changer: Actor
}

export type Holds = 'directory' | 'file' | 'cwd' | 'map'

/**
 * One way in which a layer changes under a mounted overlay. The same rows are run without the daemon (to show
 * that they can fail), with it, under patched kernels, and by the benchmark.
 */
export interface Case {
  name: string
  lowers: number
  upper: boolean
  lowerFs: readonly LowerFs[]
  options?: readonly string[]
  nested?: boolean
  twin?: boolean
  /** Fills the layers before the mount. */
  layers(overlay: Overlay, changer: Actor): void | Promise<void>
  /** Looks through the overlay so that it caches what will be stale. */
  warm(scene: Scene): void | Promise<void>
  /** Kept by another process over the change: an open and read directory, an open file, a map, a working directory. */
  holder?: { keeps: Holds; path: string } | undefined
  change(scene: Scene): void | Promise<void>
  /** Null when the overlay shows what a fresh mount would. Also run on a fresh mount, where it must be null. */
  check(scene: Scene): Verdict | Promise<Verdict>
  /**
   * `coherent`: soon after the change, holder or not. `coherent-after-holder`: what is held cannot be cured on a
   * stock kernel; it is named with the holder's pid, and is coherent soon after the holder let go.
   */
  expect: 'coherent' | 'coherent-after-holder'
  /** Of `coherent-after-holder`: the path that is named. */
  named?: string
  /** Another path that is named: what the held directory still merges is there now. */
  namedToo?: string
  /** The stock kernel gets this row right by itself; without the mark it must get it wrong. */
  stockCoherent?: boolean
  /** Needs a second user (a reader without privileges, or an owner to give a file to). */
  needsUnprivileged?: boolean
  /** Needs `trusted.` attributes or options that a user namespace may not set. */
  needsPrivileges?: boolean
  /** Thousands of changes at once: the time is counted from the end of the last. */
  burst?: boolean
}

/** File systems on which names come and go as on any disk. */
export const plain: readonly LowerFs[] = ['tmpfs', 'ext4', 'root']
