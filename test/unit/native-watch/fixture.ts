// SPDX-License-Identifier: MIT
import { spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import type { ByteString } from '../../../src/bytes.js'
import { fromText } from '../../../src/bytes.js'
import {
  type ArmedLayer,
  type Change,
  type ChangeBatch,
  type Handle,
  Kind,
  type LayerOptions,
  native,
  type Scope,
  type Watcher,
} from '../../../src/native.js'

/** In memory where that can be: what is tested is events, and removing a thousand directories from a disk takes seconds. */
export const scratch = process.env.LOWERWATCH_TEST_TMP ?? (existsSync('/dev/shm') ? '/dev/shm' : '/tmp')

export const isRoot = process.geteuid?.() === 0

/** Scopes that this process may use; those left out are named on the console, so that no skip is silent. */
export function scopesHere(): Scope[] {
  if (isRoot) return ['filesystem', 'inode', 'inotify']
  console.warn('skipped: scope filesystem needs root (CAP_SYS_ADMIN, CAP_DAC_READ_SEARCH)')
  return ['inode', 'inotify']
}

/** A directory on the machine's own file system with a watcher, whose changes are collected. */
export class Fixture {
  readonly base = mkdtempSync(join(scratch, 'lw-watch-'))
  readonly lane = new native.Lane('test')
  readonly changes: Change[] = []
  readonly batches: ChangeBatch[] = []
  readonly watcher: Watcher
  #waiting: (() => void)[] = []
  #handles: Handle[] = []
  #markers = 0

  constructor(options?: ConstructorParameters<typeof native.Watcher>[1]) {
    this.watcher = new native.Watcher((batch) => {
      this.batches.push(batch)
      this.changes.push(...batch.changes)
      for (const wake of this.#waiting.splice(0)) wake()
    }, options)
  }

  path(...parts: string[]): string {
    return join(this.base, ...parts)
  }

  async root(path: string): Promise<Handle> {
    const handle = await native.openTree(this.lane, fromText(path), { clone: isRoot })
    this.#handles.push(handle)
    return handle
  }

  async add(
    layer: number,
    path: string,
    scope: Scope,
    more: Partial<LayerOptions> = {},
  ): Promise<ArmedLayer> {
    return this.watcher.addLayer(layer, await this.root(path), {
      scopes: [scope],
      modifyNames: [],
      maxDirectories: 100_000,
      ...more,
    })
  }

  /** Runs a shell script in `base` as a child: changes of this process itself are ignored by fanotify layers. */
  async sh(script: string): Promise<void> {
    const child = spawn('bash', ['-ec', script], { cwd: this.base, stdio: ['ignore', 'ignore', 'inherit'] })
    const code = await new Promise((resolve) => child.once('exit', resolve))
    if (code !== 0) throw new Error(`script failed with ${code}: ${script}`)
  }

  /** Kinds seen so far for one name, or-ed together; 0 when there was none. */
  kinds(directory: ByteString, name: ByteString, layer?: number): number {
    let kinds = 0
    for (const change of this.changes) {
      if (change.directory !== directory || change.name !== name) continue
      if (layer === undefined || change.layer === layer) kinds |= change.kind
    }
    return kinds
  }

  /** Resolves when `condition` holds; the test's own time limit ends a wait that is in vain. */
  async until(condition: () => boolean): Promise<void> {
    while (!condition()) await new Promise<void>((resolve) => this.#waiting.push(resolve))
  }

  async seen(directory: ByteString, name: ByteString, kinds: number, layer?: number): Promise<void> {
    await this.until(() => (this.kinds(directory, name, layer) & kinds) === kinds)
  }

  /** After this everything that was done before has been reported: events of one watcher keep their order. */
  async settle(layerPath: string): Promise<void> {
    const name = `marker-${++this.#markers}`
    await this.sh(`touch '${layerPath}/${name}'`)
    await this.until(() => this.changes.some((change) => change.name === name))
  }

  /** Forgets what was seen. */
  clear(): void {
    this.changes.length = 0
    this.batches.length = 0
  }

  /** Changes but those of markers and modification times, as text that is easy to compare. */
  list(): string[] {
    return this.changes
      .filter((change) => !change.name.startsWith('marker-'))
      .map((change) => `${change.layer}:${change.directory}/${change.name}`)
  }

  close(): void {
    this.watcher.close()
    for (const handle of this.#handles) handle.close()
    this.lane.close()
    rmSync(this.base, { recursive: true, force: true })
  }
}

/** The xattr that makes a directory opaque; an ordinary user can set the other form only. */
export const opaque = isRoot ? 'trusted.overlay.opaque' : 'user.overlay.opaque'

export { Kind }

/** Descriptors and threads of this process. */
export function resources(): { fds: number; threads: number } {
  return { fds: readdirSync('/proc/self/fd').length, threads: readdirSync('/proc/self/task').length }
}
