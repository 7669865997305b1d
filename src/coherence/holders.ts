// SPDX-License-Identifier: MIT
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { readFile, stat } from 'node:fs/promises'
import { type ByteString, display, split } from '../bytes.js'
import { Cached, native } from '../native.js'
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

/** Processes read at the same time: libuv has four threads for the parts that could block. */
const batch = 16
const oPath = 0o10000000
const oDirectory = 0o200000

/**
 * Every process that pins a dentry of the overlay: open files, working and root directories, mapped files, in every
 * mount namespace and through every bind mount. See proc_pid_fd(5), proc_pid_fdinfo(5), proc_pid_maps(5).
 *
 * Open files are matched by the mount id in fdinfo, directories by device, mappings by the device in maps. Links are
 * read and not followed for anything but the overlay's own, so that a dead network file system stops nobody.
 * Not found: what no process has by a number or name (a descriptor on its way in a socket, a swap file, a loop
 * device, an io_uring table), and what only one thread has that unshared its descriptors or directories.
 */
export async function findHolders(overlay: OpenOverlay, options: HolderOptions = {}): Promise<HolderScan> {
  const scan = new Scan(overlay, options.directoriesOnly ?? false)
  const pids = processes()
  for (let at = 0; at < pids.length; at += batch) {
    const found = await Promise.all(pids.slice(at, at + batch).map((pid) => scan.process(pid)))
    scan.holders.push(...found.flat())
  }
  const { paths } = options
  const holders =
    paths === undefined
      ? scan.holders
      : scan.holders.filter((holder) => paths.some((path) => pins(holder, path)))
  return { holders, unreadable: scan.unreadable }
}

/** A dentry pins its parents. */
function pins(holder: Holder, path: ByteString): boolean {
  return path === '' || holder.path === path || holder.path.startsWith(`${path}/`)
}

function processes(): string[] {
  return readdirSync('/proc').filter((name) => /^\d+$/.test(name))
}

class Scan {
  readonly holders: Holder[] = []
  unreadable = 0
  readonly #overlay: OpenOverlay
  readonly #directoriesOnly: boolean
  readonly #tables: MountTables
  /** Device of the superblock as stat(2) packs it. */
  readonly #device: string

  constructor(overlay: OpenOverlay, directoriesOnly: boolean) {
    this.#overlay = overlay
    this.#directoriesOnly = directoriesOnly
    this.#device = overlay.description.device
    this.#tables = new MountTables(this.#device)
    // Our own namespace first: a process that holds a descriptor from here may live in another one.
    this.#tables.of('self')
  }

  async process(pid: string): Promise<Holder[]> {
    const found: Holder[] = []
    try {
      const table = this.#tables.of(pid)
      await this.#directories(pid, table, found)
      await this.#descriptors(pid, found)
      if (!this.#directoriesOnly) await this.#mappings(pid, table, found)
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code
      if (code === 'EACCES' || code === 'EPERM') this.unreadable++
      // It ended meanwhile.
      else if (code !== 'ENOENT' && code !== 'ESRCH') throw error
    }
    return found
  }

  async #directories(pid: string, table: SeenMounts, holders: Holder[]): Promise<void> {
    for (const via of ['cwd', 'root'] as const) {
      const link = `/proc/${pid}/${via}`
      const path = readlinkSync(link, 'latin1')
      const candidates = table.overlay.filter((mount) => pathInOverlay(mount, path) !== null)
      if (candidates.length === 0) continue
      // Another mount may lie over the overlay by now; only a directory of the overlay has its device. A directory
      // that is dead below answers ESTALE: then the path must do.
      const device = await deviceOf(link)
      const byPath = mountByPath(table, path)
      if (device === 'unknown' ? byPath === null : device !== this.#device) continue
      holders.push(this.#holder(pid, { via, fd: null, directory: true }, byPath ?? candidates.at(-1)!, path))
    }
  }

  async #descriptors(pid: string, holders: Holder[]): Promise<void> {
    for (const name of readdirSync(`/proc/${pid}/fd`)) {
      const link = `/proc/${pid}/fd/${name}`
      const path = readIfThere(() => readlinkSync(link, 'latin1'))
      if (path === null || !path.startsWith('/') || path.startsWith('/memfd:')) continue
      const info = readIfThere(() => readFileSync(`/proc/${pid}/fdinfo/${name}`, 'latin1'))
      if (info === null) continue
      const id = Number(/^mnt_id:\s*(\d+)/m.exec(info)?.[1] ?? -1)
      const mount = this.#tables.byId(id)
      if (mount === undefined && this.#tables.isKnown(id)) continue
      const flags = Number.parseInt(/^flags:\s*([0-7]+)/m.exec(info)?.[1] ?? '0', 8)
      const found = await attributesOf(link)
      const directory = found?.directory ?? (flags & oDirectory) !== 0
      if (this.#directoriesOnly && !directory) continue
      if (mount !== undefined)
        holders.push(this.#holder(pid, { via: 'fd', fd: Number(name), directory }, mount, path))
      else if (found?.device === this.#device) {
        // A mount that is in no namespace (any more). Its paths start at its own root, most often the overlay's.
        // One that is kept to reach the root pins nothing: the superblock does that itself.
        if (path === '/' && (flags & oPath) !== 0) continue
        const detached = { id, mountPoint: '/', root: '' }
        holders.push(this.#holder(pid, { via: 'fd', fd: Number(name), directory }, detached, path))
      }
    }
  }

  async #mappings(pid: string, table: SeenMounts, holders: Holder[]): Promise<void> {
    const seen = new Set<ByteString>()
    for (const line of (await readFile(`/proc/${pid}/maps`, 'latin1')).split('\n')) {
      const match = /^(\S+) \S+ \S+ (\w+):(\w+) \d+ +(\/.*)$/.exec(line)
      if (match === null || seen.has(match[4]!)) continue
      seen.add(match[4]!)
      const device = `${Number.parseInt(match[2]!, 16)}:${Number.parseInt(match[3]!, 16)}`
      const path = match[4]!.includes('\\012') ? exactPath(pid, match[1]!, match[4]!) : match[4]!
      // Before 6.8 a mapping shows the device of the layer; then the path must do.
      const mount = mountByPath(table, path)
      if (device !== this.#device && mount === null) continue
      const place = mount ?? table.overlay.at(-1) ?? { id: 0, mountPoint: '/', root: '' }
      holders.push(this.#holder(pid, { via: 'map', fd: null, directory: false }, place, path))
    }
  }

  #holder(
    pid: string,
    how: Pick<Holder, 'via' | 'fd' | 'directory'>,
    mount: SeenMount,
    link: ByteString,
  ): Holder {
    const inside = pathInOverlay(mount, link) ?? link.slice(1)
    const { path, deleted } = this.#name(inside)
    return { pid: Number(pid), command: commandOf(pid), ...how, path, deleted }
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

/** The link in proc(5) that leads to what is held. */
export function procLink(holder: Holder): string {
  if (holder.via === 'fd') return `/proc/${holder.pid}/fd/${holder.fd}`
  return holder.via === 'map' ? `/proc/${holder.pid}/exe` : `/proc/${holder.pid}/${holder.via}`
}

/** Null when the process or descriptor is gone. */
function readIfThere(read: () => string): string | null {
  try {
    return read()
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code
    if (code === 'ENOENT' || code === 'ESRCH') return null
    throw error
  }
}

/** maps escapes a newline and nothing else, so a path with `\012` in it is ambiguous; map_files is not. */
function exactPath(pid: string, range: string, escaped: ByteString): ByteString {
  try {
    return readlinkSync(`/proc/${pid}/map_files/${range}`, 'latin1')
  } catch {
    return escaped.replaceAll('\\012', '\n')
  }
}

function commandOf(pid: string): string {
  return display(readIfThere(() => readFileSync(`/proc/${pid}/comm`, 'latin1'))?.trimEnd() ?? '')
}

async function deviceOf(link: string): Promise<string | 'unknown'> {
  return (await attributesOf(link))?.device ?? 'unknown'
}

/** What a link in /proc leads to; null when that cannot be asked (it is dead, or gone). */
async function attributesOf(link: string): Promise<{ device: string; directory: boolean } | null> {
  try {
    const found = await stat(link, { bigint: true })
    return { device: unpackDevice(found.dev), directory: found.isDirectory() }
  } catch {
    return null
  }
}

/** libuv packs what statx(2) says with makedev(3). */
function unpackDevice(device: bigint): string {
  const major = ((device >> 8n) & 0xfffn) | ((device >> 32n) & 0xfffff000n)
  const minor = (device & 0xffn) | ((device >> 12n) & 0xffffff00n)
  return `${major}:${minor}`
}
