// SPDX-License-Identifier: MIT
import type { ByteString } from '../bytes.js'
import type { ProcessFacts } from '../native.js'

/** Where one overlay superblock is mounted, as a process sees it. */
export interface SeenMount {
  id: number
  /** Mount point as readlink(2) on the process's links in /proc shows it: from the root of its mount namespace. */
  mountPoint: ByteString
  /** Root of the mount within the overlay: '' for the whole. */
  root: ByteString
}

export interface SeenMounts {
  overlay: SeenMount[]
  /** Every mount of the namespace that the process can see, as `[id, mount point]`, in the order of the table. */
  all: [id: number, mountPoint: ByteString][]
}

/**
 * Mount tables of the mount namespaces that processes live in: one per namespace and root directory, because
 * proc_pid_mountinfo(5) hides what lies outside a process's root and starts its mount points there.
 */
export class MountTables {
  readonly #device: string
  readonly #tables = new Map<string, SeenMounts>()
  readonly #ids = new Map<number, SeenMount>()
  readonly #known = new Set<number>()

  /** @param device - `major:minor` of the overlay's superblock; the same in every namespace. */
  constructor(device: string) {
    this.#device = device
  }

  /** Takes over the table that came with a process. Every table must be known before mounts are asked for. */
  add(facts: Place & Pick<ProcessFacts, 'mountTable'>): void {
    const key = keyOf(facts)
    if (facts.mountTable === null || this.#tables.has(key)) return
    const table = parseTable(facts.mountTable, this.#device, facts.root === '/' ? '' : facts.root)
    this.#tables.set(key, table)
    for (const mount of table.overlay) this.#ids.set(mount.id, mount)
    for (const [id] of table.all) this.#known.add(id)
  }

  /** What the process sees; nothing when its table could not be read. */
  of(facts: Place): SeenMounts {
    return this.#tables.get(keyOf(facts)) ?? nothing
  }

  /** The overlay's mount with this id, in any namespace seen so far: ids are unique on the machine. */
  byId(id: number): SeenMount | undefined {
    return this.#ids.get(id)
  }

  /** The id is of a mount in some namespace seen so far; else it may be a detached mount. */
  isKnown(id: number): boolean {
    return this.#known.has(id)
  }
}

type Place = Pick<ProcessFacts, 'mountNamespace' | 'root'>

const nothing: SeenMounts = { overlay: [], all: [] }

function keyOf({ mountNamespace, root }: Place): string {
  return `${mountNamespace} ${root}`
}

function parseTable(text: string, device: string, prefix: ByteString): SeenMounts {
  const table: SeenMounts = { overlay: [], all: [] }
  for (const line of text.split('\n')) {
    const fields = line.split(' ')
    if (fields.length < 5) continue
    const id = Number(fields[0])
    const point = prefix + unescapeOctal(fields[4]!)
    const mountPoint = point.length > 1 && point.endsWith('/') ? point.slice(0, -1) : point
    table.all.push([id, mountPoint])
    if (fields[2] !== device) continue
    // A bind mount whose directory was removed says so in its root (show_mountinfo, fs/proc_namespace.c).
    const root = unescapeOctal(fields[3]!).replace(/\/\/deleted$/, '')
    table.overlay.push({ id, mountPoint, root: root.slice(1) })
  }
  return table
}

/** The octal escapes of the mount table: space, tab, newline, backslash, and '#' of newer kernels. */
export function unescapeOctal(text: string): ByteString {
  return text.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)))
}

/** `path` relative to the overlay's root, when it lies below the mount point. */
export function pathInOverlay(mount: SeenMount, path: ByteString): ByteString | null {
  const below = mount.mountPoint === '/' ? '/' : `${mount.mountPoint}/`
  if (path !== mount.mountPoint && !path.startsWith(below)) return null
  const rest = path.length > below.length ? path.slice(below.length) : ''
  return mount.root === '' ? rest : rest === '' ? mount.root : `${mount.root}/${rest}`
}

/** The overlay's mount in which `path` lies by its name alone: no other mount is mounted deeper on its way, or later. */
export function mountByPath(table: SeenMounts, path: ByteString): SeenMount | null {
  if (table.overlay.every((mount) => pathInOverlay(mount, path) === null)) return null
  let deepest: [number, ByteString] | null = null
  for (const [id, point] of table.all) {
    const holds = path === point || point === '/' || path.startsWith(`${point}/`)
    if (holds && (deepest === null || point.length >= deepest[1].length)) deepest = [id, point]
  }
  return table.overlay.find((mount) => mount.id === deepest?.[0]) ?? null
}
