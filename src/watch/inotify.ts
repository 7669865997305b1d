// SPDX-License-Identifier: MIT
import type { ByteString } from '../bytes.js'
import { fromBuffer, fromText, toBuffer } from '../bytes.js'
import { native, type RawInotify } from '../native.js'

/** What a callback of {@link Inotify.addWatch} is called with. */
export interface InotifyEvent {
  /** Watch descriptor; -1 for an overflow of the queue, which belongs to no watch. */
  watch: number
  /** `Inotify.IN_*` bits. */
  mask: number
  /** The same number in both events of a rename. */
  cookie: number
  /** Name in the watched directory, decoded as UTF-8; absent when the event is about the watched path itself. */
  name?: string
  /** The same name as it is: names are bytes and need not be UTF-8. Absent together with `name`. */
  nameBytes?: Buffer
}

export interface InotifyWatch {
  path: string | Buffer
  /** `Inotify.IN_*` bits; default `Inotify.IN_ALL_EVENTS`. */
  watch_for?: number
  callback: (event: InotifyEvent) => void
}

/**
 * inotify(7) with the public shape of the npm package `inotify`, for those who move over from it.
 *
 * What differs: a failing `addWatch` throws (there it returned -1 without a word); a failing `removeWatch`
 * throws as it did there; a queue overflow is told to every callback (`mask & Inotify.IN_Q_OVERFLOW`,
 * `watch` -1), where it used to be dropped; `nameBytes` is new; errors carry `code`, `errno` and `syscall`.
 */
export class Inotify {
  static readonly IN_ACCESS = 0x1
  static readonly IN_MODIFY = 0x2
  static readonly IN_ATTRIB = 0x4
  static readonly IN_CLOSE_WRITE = 0x8
  static readonly IN_CLOSE_NOWRITE = 0x10
  static readonly IN_OPEN = 0x20
  static readonly IN_MOVED_FROM = 0x40
  static readonly IN_MOVED_TO = 0x80
  static readonly IN_CREATE = 0x100
  static readonly IN_DELETE = 0x200
  static readonly IN_DELETE_SELF = 0x400
  static readonly IN_MOVE_SELF = 0x800
  static readonly IN_UNMOUNT = 0x2000
  static readonly IN_Q_OVERFLOW = 0x4000
  static readonly IN_IGNORED = 0x8000
  static readonly IN_CLOSE = 0x18
  static readonly IN_MOVE = 0xc0
  static readonly IN_ALL_EVENTS = 0xfff
  static readonly IN_ONLYDIR = 0x01000000
  static readonly IN_DONT_FOLLOW = 0x02000000
  static readonly IN_EXCL_UNLINK = 0x04000000
  static readonly IN_MASK_CREATE = 0x10000000
  static readonly IN_MASK_ADD = 0x20000000
  static readonly IN_ISDIR = 0x40000000
  static readonly IN_ONESHOT = 0x80000000

  readonly #raw: RawInotify
  readonly #callbacks = new Map<number, (event: InotifyEvent) => void>()
  #closed = false

  /**
   * @param persistent Keep the process alive until {@link close}. Default true.
   * @throws SyscallError `EMFILE` when fs.inotify.max_user_instances is reached.
   */
  constructor(persistent = true) {
    this.#raw = new native.Inotify((events) => this.#dispatch(events), persistent)
  }

  /**
   * Watches a path; on a path that is watched already, replaces its mask and callback. See inotify_add_watch(2).
   *
   * @returns The watch descriptor.
   * @throws TypeError for a missing path or callback, or an empty mask.
   * @throws SyscallError `ENOENT`, `EACCES`, `ENOSPC` (fs.inotify.max_user_watches), `EBADF` after {@link close}.
   */
  addWatch(watch: InotifyWatch): number {
    if (watch === null || typeof watch !== 'object') throw new TypeError('expected an object')
    const { path, watch_for = Inotify.IN_ALL_EVENTS, callback } = watch
    if (typeof path !== 'string' && !(path instanceof Uint8Array)) throw new TypeError('expected a path')
    if (typeof callback !== 'function') throw new TypeError('expected a callback')
    if (!Number.isInteger(watch_for) || watch_for === 0) throw new TypeError('expected a mask of IN_* bits')
    const bytes = typeof path === 'string' ? fromText(path) : fromBuffer(path)
    // A zero byte would cut the path short and watch another file.
    if (bytes.includes('\0')) throw new TypeError('a path has no zero byte')
    const descriptor = this.#raw.addWatch(bytes, watch_for >>> 0)
    this.#callbacks.set(descriptor, callback)
    return descriptor
  }

  /**
   * Ends a watch. The kernel confirms it with a last event, `Inotify.IN_IGNORED`.
   *
   * @returns true
   * @throws SyscallError `EINVAL` when there is no such watch, `EBADF` after {@link close}.
   */
  removeWatch(watch: number): boolean {
    if (!Number.isInteger(watch)) throw new TypeError('expected a watch descriptor')
    this.#raw.removeWatch(watch)
    return true
  }

  /** Ends every watch and closes the descriptor. True the first time, false when it was closed already. */
  close(): boolean {
    if (this.#closed) return false
    this.#closed = true
    this.#callbacks.clear()
    this.#raw.close()
    return true
  }

  #dispatch(events: { watch: number; mask: number; cookie: number; name: ByteString }[]): void {
    for (const { watch, mask, cookie, name } of events) {
      const event: InotifyEvent = { watch, mask, cookie }
      if (name !== '') {
        event.nameBytes = toBuffer(name)
        event.name = event.nameBytes.toString('utf8')
      }
      const callbacks = watch === -1 ? [...this.#callbacks.values()] : [this.#callbacks.get(watch)]
      // The descriptor's number is free for another watch once the callback has returned.
      if ((mask & Inotify.IN_IGNORED) !== 0) this.#callbacks.delete(watch)
      for (const callback of callbacks) this.#call(callback, event)
    }
  }

  // One that throws must not take the events of the others with it.
  #call(callback: ((event: InotifyEvent) => void) | undefined, event: InotifyEvent): void {
    try {
      callback?.(event)
    } catch (error) {
      process.nextTick(() => {
        throw error
      })
    }
  }
}
