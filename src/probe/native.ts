// SPDX-License-Identifier: MIT

/**
 * What the addon offers to experiments and to nothing else: native/probe/. Every call runs on the calling thread and at
 * once; a failed one throws a `SyscallError`. Paths and names are byte strings.
 */
import type { ByteString } from '../bytes.js'
import { native } from '../native.js'

/** One info record of a fanotify event, see fanotify(7). */
export interface EventRecord {
  /** FAN_EVENT_INFO_TYPE_*. */
  type: number
  /** Handle length (4 bytes), handle type (4 bytes) and handle. */
  handle: ByteString
  name: ByteString
}

export interface RawEvent {
  mask: number
  /** Of the event as read(2) gave it. */
  lengthBytes: number
  /** inotify: which watch, and 0 or what ties two halves of a rename together. */
  watch?: number
  cookie?: number
  name?: ByteString
  /** fanotify: who did it, the path of the descriptor that came with it, and the records. */
  pid?: number
  path?: ByteString | null
  records?: EventRecord[]
}

/** One inotify instance, or one fanotify group. */
export interface EventGroup {
  /** inotify_add_watch(2): the watch. */
  watch(path: ByteString, mask: number): number
  /** fanotify_mark(2) with FAN_MARK_ADD: FAN_MARK_* `flags` and a mask of events. */
  mark(flags: number, mask: number, path: ByteString): void
  /** poll(2): whether there is something to read within so many milliseconds. Blocks the thread. */
  wait(timeoutMs: number): boolean
  /** Everything that can be read now. */
  drain(): RawEvent[]
  close(): void
}

export interface Experiments {
  /** With `initFlags`: fanotify_init(2), FAN_CLASS_NOTIF and non-blocking. Without: inotify_init1(2). */
  EventGroup: new (
    initFlags?: number,
  ) => EventGroup
  /** getdents64(2) on a descriptor that is open: the names from where it stands, or from the start. */
  listOpen(fd: number, rewind: boolean): ByteString[]
  /** poll(2) without waiting: `revents`. */
  pollNow(fd: number, events: number): number
  /** openat(2); close the result. */
  openAt(fd: number, name: ByteString, flags: number): number
  /** mkdirat(2), mode 0755. */
  makeDirectoryAt(fd: number, name: ByteString): void
  /** Writes one byte at the start of a file of at least a page, by mmap(2) and msync(2). */
  writeMapped(fd: number): void
  /** ioctl_loop(4): adds or removes /dev/loopN. */
  loopDevice(number: number, add: boolean): void
  /** mount(2) with MS_REMOUNT alone: what the legacy call does to flags that are not repeated. */
  remountWithoutFlags(path: ByteString): void
  /** Whether there is listmount(2) (6.8). */
  hasListmount(): boolean
}

export const experiments: Experiments = (native as unknown as { experiments: Experiments }).experiments
