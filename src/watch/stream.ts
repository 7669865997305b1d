// SPDX-License-Identifier: MIT
import { type ByteString, display, join } from '../bytes.js'
import {
  type ArmedLayer,
  type Change,
  Kind,
  type LayerOptions,
  native,
  type Watcher,
  type WatcherCounters,
} from '../native.js'
import type { OpenLayer, OpenOverlay } from '../overlay/types.js'
import { WatchCost } from './cost.js'
import { Reconciler } from './reconcile.js'
import { isKernfs, layerOptions, narrowOptions, reflexOf } from './scopes.js'

/** Where changes of one overlay go. */
export interface ChangeSink {
  /** Share of wall time that refreshes may take. */
  readonly refreshShare: number
  accept(layer: OpenLayer, change: Change, readAtNs: bigint): void
  /** A directory was renamed within a layer; the changes of its two names are accepted as well. */
  renamed(layer: OpenLayer, from: ByteString, to: ByteString): void
  /** The overlay has been refreshed before the changes were reported. Milliseconds. */
  refreshed(spentMs: number, latencyMs: number): void
  /** All of one batch has been accepted. */
  flush(): void
}

export interface WatchedLayer {
  layer: OpenLayer
  armed: ArmedLayer
}

interface Registration {
  overlay: OpenOverlay
  layer: OpenLayer
  watch: OverlayWatch
  sink: ChangeSink
  reconciler: Reconciler | null
}

/** The changes of all lower layers of all overlays, from one reader thread. */
export class ChangeStream {
  private readonly registrations = new Map<number, Registration>()
  private readonly watcher: Watcher
  private readonly cost: WatchCost
  private nextId = 1

  constructor(
    private readonly reconcileIntervalMs: number,
    private readonly log: (message: string) => void,
  ) {
    this.watcher = new native.Watcher(({ changes, renames, readAtNs, refreshed }) => {
      for (const { layer, spentNs, latencyNs } of refreshed) {
        this.registrations.get(layer)?.sink.refreshed(spentNs / 1e6, latencyNs / 1e6)
      }
      for (const { layer, from, to } of renames) {
        const registration = this.registrations.get(layer)
        registration?.sink.renamed(registration.layer, from, to)
      }
      this.deliver(changes, readAtNs)
    })
    this.cost = new WatchCost(
      () => this.watcher.counters(),
      (reason) => this.narrow(reason),
    )
  }

  /**
   * Watches the lower layers of an overlay. When the promise resolves every later change is reported; what was
   * before must be looked at after, not before.
   */
  async watch(overlay: OpenOverlay, sink: ChangeSink): Promise<OverlayWatch> {
    const watch = new OverlayWatch(this)
    try {
      for (const layer of overlay.layers) {
        if (layer.role !== 'upper') await this.arm(watch, overlay, layer, sink, layerOptions(layer))
      }
    } catch (error) {
      await watch.close()
      throw error
    }
    return watch
  }

  /** Resolves when every change made before the call has been handed to its sink. */
  async settle(): Promise<void> {
    await this.watcher.flush()
  }

  counters(): WatcherCounters {
    return this.watcher.counters()
  }

  state(id: number): ArmedLayer | null {
    return this.watcher.layerState(id)
  }

  layerOf(id: number): OpenLayer | undefined {
    return this.registrations.get(id)?.layer
  }

  close(): void {
    this.cost.close()
    for (const { reconciler } of this.registrations.values()) reconciler?.close()
    this.registrations.clear()
    this.watcher.close()
  }

  async arm(
    watch: OverlayWatch,
    overlay: OpenOverlay,
    layer: OpenLayer,
    sink: ChangeSink,
    options: LayerOptions,
  ): Promise<ArmedLayer> {
    const id = this.nextId++
    const registration: Registration = { overlay, layer, watch, sink, reconciler: null }
    this.registrations.set(id, registration)
    watch.ids.push(id)
    const armed = await this.watcher.addLayer(id, layer.root, {
      ...options,
      ...reflexOf(overlay, sink.refreshShare),
    })
    if (isKernfs(layer.fsType) || armed.unwatched.length > 0) {
      registration.reconciler = new Reconciler(overlay, layer, id, () => this.watcher.layerState(id), {
        intervalMs: this.reconcileIntervalMs,
        onChanges: (changes) => this.deliver(changes, native.monotonicNs()),
      })
      await registration.reconciler.start()
    }
    return armed
  }

  /** Watches what appeared in `directory` of a layer without an event. */
  async rescan(layer: OpenLayer, directory: ByteString): Promise<void> {
    for (const [id, registration] of this.registrations) {
      if (registration.layer === layer) await this.watcher.rescan(id, directory)
    }
  }

  async disarm(id: number): Promise<void> {
    const registration = this.registrations.get(id)
    if (registration === undefined) return
    this.registrations.delete(id)
    registration.reconciler?.close()
    await this.watcher.removeLayer(id)
  }

  /**
   * Watches small trees on a busy file system by inode marks instead: armed before the filesystem mark goes, so
   * that no change falls between. Trees that do not fit stay as they are.
   */
  private async narrow(reason: string): Promise<void> {
    for (const [id, { overlay, layer, watch, sink, reconciler }] of [...this.registrations]) {
      if (reconciler !== null || this.watcher.layerState(id)?.scope !== 'filesystem') continue
      const armed = await this.arm(watch, overlay, layer, sink, narrowOptions(layer))
      const unneeded = armed.unwatched.length > 0 ? watch.ids.at(-1)! : id
      watch.ids.splice(watch.ids.indexOf(unneeded), 1)
      await this.disarm(unneeded)
      if (unneeded === id) {
        armed.reasons.push(`filesystem: ${reason}`)
        this.log(
          `layer ${display(layer.path)} is watched by ${armed.directories} ${armed.scope} marks: ${reason}`,
        )
      }
    }
  }

  private deliver(changes: Change[], readAtNs: bigint): void {
    const touched = new Set<ChangeSink>()
    for (const change of changes) {
      const registration = this.registrations.get(change.layer)
      if (registration === undefined) continue
      touched.add(registration.sink)
      if (change.kind & Kind.modify) {
        registration.reconciler?.childrenChanged(change.directory)
        if ((change.kind & ~(Kind.modify | Kind.directory)) === 0) continue
      }
      registration.sink.accept(registration.layer, change, readAtNs)
      if (change.kind & Kind.directory && change.kind & (Kind.create | Kind.movedTo)) {
        registration.reconciler?.directoryAppeared(join(change.directory, change.name))
      }
    }
    for (const sink of touched) sink.flush()
  }
}

/** The watches of one overlay. */
export class OverlayWatch {
  readonly ids: number[] = []

  constructor(private readonly stream: ChangeStream) {}

  /** Layers with how they are watched now. */
  layers(): WatchedLayer[] {
    const list: WatchedLayer[] = []
    for (const id of this.ids) {
      const layer = this.stream.layerOf(id)
      const armed = this.stream.state(id)
      if (layer !== undefined && armed !== null) list.push({ layer, armed })
    }
    return list
  }

  async close(): Promise<void> {
    for (const id of this.ids.splice(0)) await this.stream.disarm(id)
  }
}
