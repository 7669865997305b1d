// SPDX-License-Identifier: MIT
import { type ByteString, split } from '../bytes.js'
import type { OpenOverlay, StaleEntry } from '../overlay/types.js'
import { Comparison, comparePath, unique } from './compare.js'
import { findHolders } from './holders.js'
import { Oracle } from './oracle.js'

export interface CheckOptions {
  /** Only these paths, what leads to them and what is below them. Null: the whole overlay. */
  paths: ByteString[] | null
}

export interface CheckReport {
  entries: StaleEntry[]
  namesExamined: number
  directoriesExamined: number
  /** What could not be told, one sentence each. */
  limits: string[]
}

const unlisted =
  'a name that is gone from the lower layers, that no listing shows and no process holds, is only found when its path is given'
const revalidating =
  'a lower layer revalidates by itself (kernfs, NFS, FUSE), which hides what is cached: every name was looked up, and is cached now'

/**
 * Is the overlay coherent now? Only what it has cached can be stale, so only that is compared: directories that are
 * not cached are not entered. Nothing stays open, and a directory is read only while it is compared.
 *
 * @throws LowerwatchError LAYER_UNREACHABLE or NOT_PERMITTED; SyscallError
 */
export async function checkOverlay(overlay: OpenOverlay, options: CheckOptions): Promise<CheckReport> {
  const oracle = await Oracle.create(overlay)
  try {
    const walk = new Walk(overlay, oracle)
    await walk.hold(options.paths)
    for (const path of options.paths ?? ['']) await walk.from(path)
    return {
      entries: await confirmed(overlay, oracle, unique(walk.entries)),
      namesExamined: walk.names,
      directoriesExamined: walk.directories,
      limits: [...walk.limits, ...walk.comparison.limits],
    }
  } finally {
    oracle.close()
  }
}

/** What changes while it is compared looks stale. So whatever differs is looked at once more, with a fresh mount. */
async function confirmed(overlay: OpenOverlay, oracle: Oracle, entries: StaleEntry[]): Promise<StaleEntry[]> {
  if (entries.length === 0) return []
  await oracle.forget()
  const comparison = new Comparison(overlay, oracle)
  const again = new Map<ByteString, StaleEntry[]>()
  for (const { path } of entries) {
    if (again.has(path)) continue
    const entries = await comparePath(overlay, oracle, path, comparison)
    again.set(path, [...entries, ...(path === '' ? [] : await comparison.unreachable(path))])
  }
  return entries.filter(({ path, kind }) => again.get(path)!.some((entry) => entry.kind === kind))
}

class Walk {
  readonly entries: StaleEntry[] = []
  readonly limits: string[] = []
  readonly comparison: Comparison
  names = 0
  directories = 0
  readonly #overlay: OpenOverlay
  readonly #oracle: Oracle
  /** Names that the layers may have no more: given by the caller, or held by a process. By directory. */
  readonly #extra = new Map<ByteString, Set<ByteString>>()
  readonly #done = new Set<ByteString>()

  constructor(overlay: OpenOverlay, oracle: Oracle) {
    this.#overlay = overlay
    this.#oracle = oracle
    this.comparison = new Comparison(overlay, oracle)
    if (overlay.layers.some((layer) => layer.revalidates)) this.limits.push(revalidating)
  }

  async hold(paths: ByteString[] | null): Promise<void> {
    const { holders, unreadable } = await findHolders(this.#overlay)
    if (unreadable > 0) this.limits.push(`${unreadable} processes could not be asked what they hold`)
    if (paths === null) this.limits.push(unlisted)
    for (const path of [...(paths ?? []), ...holders.map((holder) => holder.path)]) this.#remember(path)
  }

  /** What leads to `path`, the path itself, and everything cached below. */
  async from(path: ByteString): Promise<void> {
    for (let end = path.indexOf('/'); end > 0; end = path.indexOf('/', end + 1)) {
      this.entries.push(
        ...(await comparePath(this.#overlay, this.#oracle, path.slice(0, end), this.comparison)),
      )
    }
    const pending: ByteString[] = []
    if (path === '') {
      this.entries.push(...(await this.comparison.root()))
      pending.push('')
    } else {
      const { directory, name } = split(path)
      const { entries, descend, names } = await this.comparison.names(directory, [name])
      this.entries.push(...entries, ...(await this.comparison.unreachable(path)))
      this.names += names
      pending.push(...descend)
    }
    for (let directory = pending.pop(); directory !== undefined; directory = pending.pop()) {
      if (this.#done.has(directory)) continue
      this.#done.add(directory)
      const { entries, descend, names } = await this.comparison.directory(
        directory,
        this.#extra.get(directory) ?? [],
      )
      this.entries.push(...entries)
      this.names += names
      this.directories++
      pending.push(...descend)
    }
  }

  #remember(path: ByteString): void {
    for (let rest = path; rest !== ''; ) {
      const { directory, name } = split(rest)
      const names = this.#extra.get(directory) ?? new Set()
      this.#extra.set(directory, names.add(name))
      rest = directory
    }
  }
}
