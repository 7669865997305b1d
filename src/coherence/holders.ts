// SPDX-License-Identifier: MIT
import { constants } from 'node:fs'
import { setImmediate } from 'node:timers/promises'
import { type ByteString, display, split } from '../bytes.js'
import {
  Cached,
  type DescriptorFacts,
  type Lane,
  type LinkTarget,
  native,
  type ProcessFacts,
} from '../native.js'
import type { Holder, OpenOverlay } from '../overlay/types.js'
import { MountTables, mountByPath, pathInOverlay, type SeenMount, type SeenMounts } from './holders-mounts.js'

export interface HolderOptions {
  /** Only what pins one of these: the path itself or something below it. Default: everything. */
  paths?: ByteString[]
  /** Only directories: what can hold a listing. Leaves out mapped files, which take the longest to look for. */
  directoriesOnly?: boolean
}

export interface HolderScan {
  holders: Holder[]
  /** Processes that may hold something and could not be read (EACCES: another user's, without CAP_SYS_PTRACE). */
  unreadable: number
}

/** Processes whose facts are handed over and matched in one turn: some tenths of a millisecond. */
const batch = 64
const oPath = 0o10000000
/** The bit of O_TMPFILE beside O_DIRECTORY, which it includes: such a file is no directory. */
const oTemporary = 0o20000000

/**
 * Every process that pins a dentry of the overlay: open files, working and root directories, mapped files, in every
 * mount namespace and through every bind mount. See proc_pid_fd(5), proc_pid_fdinfo(5), proc_pid_maps(5).
 *
 * Open files are matched by the mount id in fdinfo, directories by device, mappings by the device in maps. Links are
 * read; followed where only that can tell, and then no server is asked, so that a dead one stops nobody.
 * The search has a lane of its own: it takes milliseconds, and neither this thread nor the overlay's lane waits.
 * Not found: what no process has by a number or name (a descriptor on its way in a socket, a swap file, a loop
 * device, an io_uring table), and what only one thread has that unshared its descriptors or directories.
 */
export async function findHolders(overlay: OpenOverlay, options: HolderOptions = {}): Promise<HolderScan> {
  const lane = new native.Lane('holders', { bulk: true })
  const scan = new Scan(overlay, options.directoriesOnly ?? false, lane)
  try {
    const batches = await survey(lane, !(options.directoriesOnly ?? false))
    // All mount tables first: a process that holds a descriptor from one namespace may live in another one.
    for (const processes of batches) scan.learn(processes)
    for (const processes of batches) {
      await scan.match(processes)
      await setImmediate()
    }
  } finally {
    lane.close()
  }
  const { paths } = options
  const holders =
    paths === undefined
      ? scan.holders
      : scan.holders.filter((holder) => paths.some((path) => pins(holder, path)))
  return { holders, unreadable: scan.unreadable }
}

async function survey(lane: Lane, maps: boolean): Promise<ProcessFacts[][]> {
  const pids = await native.processIds(lane)
  const batches: ProcessFacts[][] = []
  for (let at = 0; at < pids.length; at += batch)
    batches.push(await native.processes(lane, pids.slice(at, at + batch), { maps }))
  return batches
}

/** A dentry pins its parents. */
function pins(holder: Holder, path: ByteString): boolean {
  return path === '' || holder.path === path || holder.path.startsWith(`${path}/`)
}

class Scan {
  readonly holders: Holder[] = []
  unreadable = 0
  readonly #overlay: OpenOverlay
  readonly #directoriesOnly: boolean
  readonly #lane: Lane
  readonly #tables: MountTables
  /** `major:minor` of the superblock. */
  readonly #device: string

  constructor(overlay: OpenOverlay, directoriesOnly: boolean, lane: Lane) {
    this.#overlay = overlay
    this.#lane = lane
    this.#directoriesOnly = directoriesOnly
    this.#device = overlay.description.device
    this.#tables = new MountTables(this.#device)
  }

  learn(processes: ProcessFacts[]): void {
    for (const facts of processes) this.#tables.add(facts)
  }

  async match(processes: ProcessFacts[]): Promise<void> {
    for (const facts of processes) {
      if (facts.unreadable) this.unreadable++
      const table = this.#tables.of(facts)
      for (const via of ['cwd', 'root'] as const) await this.#directory(facts, via, table)
      for (const descriptor of facts.descriptors) {
        const mount = this.#tables.byId(descriptor.mountId)
        // By far the most are on a mount of another file system: no waiting for these.
        if (mount === undefined && this.#tables.isKnown(descriptor.mountId)) continue
        await this.#descriptor(facts, descriptor, mount)
      }
      if (!this.#directoriesOnly) this.#mappings(facts, table)
    }
  }

  async #directory(facts: ProcessFacts, via: 'cwd' | 'root', table: SeenMounts): Promise<void> {
    const path = facts[via]
    const candidates = table.overlay.filter((mount) => pathInOverlay(mount, path) !== null)
    if (candidates.length === 0) return
    // Another mount may lie over the overlay by now; only a directory of the overlay has its device. A directory
    // that is dead below answers ESTALE: then the path must do.
    const found = await native.linkTarget(this.#lane, `/proc/${facts.pid}/${via}`)
    const byPath = mountByPath(table, path)
    if (found === null ? byPath === null : deviceOf(found) !== this.#device) return
    this.#add(facts, { via, fd: null, directory: true }, byPath ?? candidates.at(-1)!, path)
  }

  async #descriptor(
    facts: ProcessFacts,
    { number, mountId, flags, link: path }: DescriptorFacts,
    mount: SeenMount | undefined,
  ): Promise<void> {
    const opened = (flags & constants.O_DIRECTORY) !== 0 && (flags & oTemporary) === 0
    const link = `/proc/${facts.pid}/fd/${number}`
    const found = mount !== undefined && opened ? null : await native.linkTarget(this.#lane, link)
    const directory = found?.directory ?? opened
    if (this.#directoriesOnly && !directory) return
    if (mount !== undefined) this.#add(facts, { via: 'fd', fd: number, directory }, mount, path)
    else if (found !== null && deviceOf(found) === this.#device) {
      // A mount that is in no namespace (any more). Its paths start at its own root, most often the overlay's.
      // One that is kept to reach the root pins nothing: the superblock does that itself.
      if (path === '/' && (flags & oPath) !== 0) return
      const detached = { id: mountId, mountPoint: '/', root: '' }
      this.#add(facts, { via: 'fd', fd: number, directory }, detached, path)
    }
  }

  #mappings(facts: ProcessFacts, table: SeenMounts): void {
    const seen = new Set<ByteString>()
    for (const { devMajor, devMinor, path } of facts.mapped) {
      // Before 6.8 a mapping shows the device of the layer; then the path must do.
      const mount = mountByPath(table, path)
      if (seen.has(path) || (mount === null && `${devMajor}:${devMinor}` !== this.#device)) continue
      seen.add(path)
      const place = mount ?? table.overlay.at(-1) ?? { id: 0, mountPoint: '/', root: '' }
      this.#add(facts, { via: 'map', fd: null, directory: false }, place, path)
    }
  }

  #add(
    { pid, command }: ProcessFacts,
    how: Pick<Holder, 'via' | 'fd' | 'directory'>,
    mount: SeenMount,
    link: ByteString,
  ): void {
    const inside = pathInOverlay(mount, link) ?? link.slice(1)
    this.holders.push({ pid, command: display(command), ...how, ...this.#name(inside) })
  }

  /** The kernel appends " (deleted)" to the path of a dropped dentry; a file may be called so too. */
  #name(path: ByteString): { path: ByteString; deleted: boolean } {
    const suffix = ' (deleted)'
    if (!path.endsWith(suffix)) return { path, deleted: false }
    const { directory, name } = split(path)
    const [cached] = native.probeCached(this.#overlay.root, directory, [name])
    if (cached === Cached.positive) return { path, deleted: false }
    return { path: path.slice(0, -suffix.length), deleted: true }
  }
}

function deviceOf({ devMajor, devMinor }: LinkTarget): string {
  return `${devMajor}:${devMinor}`
}

/** The link in proc(5) that leads to what is held. */
export function procLink(holder: Holder): string {
  if (holder.via === 'fd') return `/proc/${holder.pid}/fd/${holder.fd}`
  return holder.via === 'map' ? `/proc/${holder.pid}/exe` : `/proc/${holder.pid}/${holder.via}`
}
