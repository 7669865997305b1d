// SPDX-License-Identifier: MIT

/** The ways to listen that the matrix has as columns. */
import { statSync } from 'node:fs'
import { basename, dirname } from 'node:path'
import { type ByteString, fromText } from '../bytes.js'
import { isSyscallError } from '../errors.js'
import { native } from '../native.js'
import { Bit, FAN_EVENT_ON_CHILD, FAN_ONDIR, type SeenEvent, seenEvent, summary } from './events.js'
import { type EventGroup, experiments } from './native.js'
import { type Context, type Observation, Skip } from './types.js'

/** What changes. */
export interface Target {
  /** Where names come and go. */
  directory: string
  /** What comes, goes, moves or changes, if it is there before. */
  object?: string
  /** A file: one in the object, or the one whose content changes. */
  file?: string
  /** Another directory whose events are of interest to a file system mark: where the hint is written. */
  hint?: string
  /** A path whose mount and file system are marked; default the directory. */
  filesystem?: string
}

type Place = 'directory' | 'object' | 'file' | 'filesystem'

export interface Watcher {
  id: string
  title: string
  place: Place
  /** Null for inotify, else flags of fanotify_init(2). */
  init: number | null
  /** Flags of fanotify_mark(2). */
  mark: number
  mask: number
  /** Only where these are the subject. */
  special?: 'rename' | 'mounts'
}

const FAN_REPORT_FID = 0x200
const FAN_REPORT_DFID_NAME = 0xc00
const FAN_REPORT_DFID_NAME_TARGET = FAN_REPORT_DFID_NAME | FAN_REPORT_FID | 0x1000
const FAN_REPORT_MNT = 0x4000
const FAN_MARK_MOUNT = 0x10
const FAN_MARK_FILESYSTEM = 0x100
const FAN_MARK_MNTNS = 0x110

const names = Bit.CREATE | Bit.DELETE | Bit.MOVED_FROM | Bit.MOVED_TO
const all = names | Bit.MODIFY | Bit.ATTRIB | Bit.DELETE_SELF | Bit.MOVE_SELF
const fan = all | FAN_ONDIR
const self = Bit.MODIFY | Bit.ATTRIB | Bit.DELETE_SELF | Bit.MOVE_SELF
const children = fan | FAN_EVENT_ON_CHILD

export const watchers: Watcher[] = [
  {
    id: 'inotify-directory',
    title: 'inotify on directory',
    place: 'directory',
    init: null,
    mark: 0,
    mask: all,
  },
  { id: 'inotify-object', title: 'inotify on object', place: 'object', init: null, mark: 0, mask: all },
  { id: 'inotify-file', title: 'inotify on file', place: 'file', init: null, mark: 0, mask: all },
  inode('inode-fid', 'inode FID', FAN_REPORT_FID),
  inode('inode-name', 'inode DFID_NAME', FAN_REPORT_DFID_NAME),
  inode('inode-target', 'inode TARGET_FID', FAN_REPORT_DFID_NAME_TARGET),
  { ...inode('inode-object', 'inode FID on object', FAN_REPORT_FID), place: 'object' },
  { ...inode('inode-file', 'inode FID on file', FAN_REPORT_FID), place: 'file', mask: self },
  {
    id: 'fanotify-mount',
    title: 'fanotify mount FID',
    place: 'filesystem',
    init: FAN_REPORT_FID,
    mark: FAN_MARK_MOUNT,
    mask: names | FAN_ONDIR,
  },
  filesystem('fs-fid', 'file system FID', FAN_REPORT_FID),
  filesystem('fs-name', 'file system DFID_NAME', FAN_REPORT_DFID_NAME),
  filesystem('fs-target', 'file system TARGET_FID', FAN_REPORT_DFID_NAME_TARGET),
  {
    ...inode('inode-rename', 'inode RENAME', FAN_REPORT_DFID_NAME),
    mask: Bit.RENAME | FAN_ONDIR,
    special: 'rename',
  },
  {
    ...filesystem('fs-rename', 'file system RENAME', FAN_REPORT_DFID_NAME),
    mask: Bit.RENAME | FAN_ONDIR,
    special: 'rename',
  },
  {
    id: 'fanotify-mntns',
    title: 'fanotify mount namespace',
    place: 'filesystem',
    init: FAN_REPORT_MNT,
    mark: FAN_MARK_MNTNS,
    mask: 0x3000000,
    special: 'mounts',
  },
]

function inode(id: string, title: string, init: number): Watcher {
  return {
    id: `fanotify-${id}`,
    title: `fanotify ${title}`,
    place: 'directory',
    init,
    mark: 0,
    mask: children,
  }
}

function filesystem(id: string, title: string, init: number): Watcher {
  const mark = FAN_MARK_FILESYSTEM
  return { id: `fanotify-${id}`, title: `fanotify ${title}`, place: 'filesystem', init, mark, mask: fan }
}

/** The watchers that can be put on what an action has. `content`: what changes is in a file, and no name. */
export function watchersFor(places: Place[], special: string[], content: boolean): Watcher[] {
  return (
    watchers
      .filter(
        (watcher) =>
          (watcher.place === 'filesystem'
            ? places.length > 0 || watcher.special
            : places.includes(watcher.place)) &&
          (watcher.special === undefined || special.includes(watcher.special)),
      )
      // A mount mark takes no event of a name: EINVAL.
      .map((watcher) =>
        content && watcher.mark === FAN_MARK_MOUNT ? { ...watcher, mask: Bit.MODIFY } : watcher,
      )
  )
}

/** Handles of what an experiment knows, by the name it has in its rows. */
export class Labels {
  readonly #labels = new Map<ByteString, string>()

  async add(context: Context, label: string, path: string): Promise<void> {
    const [directory, name] = statSync(path).isDirectory() ? [path, ''] : [dirname(path), basename(path)]
    const root = await native.openTree(context.lane, fromText(directory), { clone: false })
    try {
      const handle = await native.handleAt(context.lane, root, fromText(name), { fid: true })
      if (handle === null) return
      const head = Buffer.alloc(8)
      head.writeUInt32LE(handle.bytes.length, 0)
      head.writeInt32LE(handle.type, 4)
      this.#labels.set(head.toString('latin1') + handle.bytes, label)
    } finally {
      root.close()
    }
  }

  get(handle: ByteString): string | null {
    return this.#labels.get(handle) ?? null
  }
}

/** One watcher that listens. */
export class Listener {
  readonly #label: string
  #group: EventGroup | null = null
  /** Why it does not listen: the name of an errno. */
  refused = ''

  constructor(
    readonly watcher: Watcher,
    target: Target,
    readonly labels: Labels,
  ) {
    const path =
      watcher.place === 'filesystem' ? (target.filesystem ?? target.directory) : target[watcher.place]
    this.#label = watcher.place
    try {
      this.#group = new experiments.EventGroup(watcher.init ?? undefined)
      const place = watcher.special === 'mounts' ? '/proc/self/ns/mnt' : path!
      if (watcher.init === null) this.#group.watch(fromText(place), watcher.mask)
      else this.#group.mark(watcher.mark, watcher.mask, fromText(place))
    } catch (error) {
      this.close()
      if (!isSyscallError(error)) throw error
      this.refused = error.code
    }
  }

  wait(timeoutMs: number): boolean {
    return this.#group?.wait(timeoutMs) ?? false
  }

  /** What came since the last call. A file system mark hears of others too: their objects have no label. */
  read(): SeenEvent[] {
    const seen = (this.#group?.drain() ?? []).map((event) =>
      seenEvent(event, (key) => (typeof key === 'number' ? this.#label : this.labels.get(key))),
    )
    const everything = this.watcher.place !== 'filesystem' || this.watcher.special === 'mounts'
    return everything ? seen : seen.filter((event) => event.subjects.some((subject) => subject !== '?'))
  }

  observe(
    events: SeenEvent[],
    changed: string[] | null,
    ignore: string[],
    context: Context,
  ): Observation | Skip {
    if (this.refused === 'EPERM' && !context.privileged)
      return new Skip(`${this.watcher.title} needs CAP_SYS_ADMIN in the first user namespace`)
    if (this.refused !== '') return { seen: `refused: ${this.refused}` }
    const about = events
      .map((event) => ({ ...event, kinds: event.kinds.filter((kind) => !ignore.includes(kind)) }))
      .filter((event) => event.kinds.length > 0)
    const named = this.watcher.place === 'directory' || this.watcher.place === 'filesystem'
    return { seen: summary(about, named ? changed : null), events }
  }

  close(): void {
    this.#group?.close()
    this.#group = null
  }
}
