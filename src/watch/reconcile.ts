// SPDX-License-Identifier: MIT
import { type ByteString, display, join } from '../bytes.js'
import { isSyscallError } from '../errors.js'
import { type ArmedLayer, type Change, Kind, type Lane, native, type Snapshot } from '../native.js'
import type { OpenLayer, OpenOverlay } from '../overlay/types.js'
import { isKernfs } from './scopes.js'

/** Directories remembered per layer: some 100 bytes a name. */
const maxDirectories = 200_000
const DT_DIR = 4

export interface ReconcileOptions {
  intervalMs: number
  onChanges(changes: Change[]): void
}

/**
 * Finds what no event tells, by remembering names and looking again: files that the kernel makes or removes in
 * kernfs, and the parts of a tree for which there was no watch left. Runs on a lane of its own, so that a long
 * look delays no refresh.
 */
export class Reconciler {
  private readonly lane: Lane
  private readonly snapshot: Snapshot
  private timer: NodeJS.Timeout | null = null
  private closed = false

  constructor(
    overlay: OpenOverlay,
    private readonly layer: OpenLayer,
    private readonly id: number,
    private readonly state: () => ArmedLayer | null,
    private readonly options: ReconcileOptions,
  ) {
    this.lane = new native.Lane(`look ${overlay.description.device}`)
    this.snapshot = new native.Snapshot(id, layer.root, {
      attributes: !isKernfs(layer.fsType),
      maxDirectories,
    })
  }

  /** The first look, which everything later is compared with. */
  async start(): Promise<void> {
    await this.look()
    this.schedule()
  }

  /** A controller was switched on or off in `directory`: its children have other files now. */
  childrenChanged(directory: ByteString): void {
    void this.guard(async () => {
      const entries = await native.readDirectory(this.lane, this.layer.root, directory)
      for (const entry of entries) {
        if (entry.type === DT_DIR) await this.rescan(join(directory, entry.name), false)
      }
    })
  }

  /** A directory appeared: remember it, and have its names looked at, since they may be older than the look. */
  directoryAppeared(directory: ByteString): void {
    void this.guard(async () => {
      await this.rescan(directory, true)
      this.options.onChanges([{ layer: this.id, directory, name: '', kind: Kind.directoryDirty }])
    })
  }

  close(): void {
    this.closed = true
    if (this.timer !== null) clearTimeout(this.timer)
    this.snapshot.close()
    this.lane.close()
  }

  private schedule(): void {
    if (this.closed) return
    this.timer = setTimeout(() => {
      void this.guard(() => this.look()).finally(() => this.schedule())
    }, this.options.intervalMs)
    this.timer.unref()
  }

  private async look(): Promise<void> {
    if (isKernfs(this.layer.fsType)) return this.rescan('', true)
    for (const directory of this.state()?.unwatched ?? []) await this.rescan(directory, true)
  }

  private async rescan(directory: ByteString, recursive: boolean): Promise<void> {
    const changes = await this.snapshot.rescan(this.lane, directory, { recursive })
    if (changes.length > 0 && !this.closed) this.options.onChanges(changes)
  }

  /** A directory that goes away while it is looked at is the ordinary case: its parent reports it. */
  private async guard(look: () => Promise<void>): Promise<void> {
    try {
      await look()
    } catch (error) {
      if (this.closed || isSyscallError(error, 'ENOENT', 'ESTALE', 'ENOTDIR', 'ENODEV', 'ECANCELED')) return
      this.options.onChanges([{ layer: this.id, directory: '', name: '', kind: Kind.layerDirty }])
      process.emitWarning(`cannot look again at layer ${display(this.layer.path)}: ${String(error)}`)
    }
  }
}
