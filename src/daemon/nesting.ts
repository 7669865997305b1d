// SPDX-License-Identifier: MIT
import { join } from '../bytes.js'
import { Kind, native } from '../native.js'
import type { OpenLayer, OpenOverlay } from '../overlay/types.js'
import type { OverlayController } from '../refresh/controller.js'
import type { LowerChanges } from '../watch/changes.js'
import type { ChangeStream } from '../watch/stream.js'
import { forwardedChanges } from './forward.js'
import type { Managed } from './manager.js'
import { onceAtATime } from './once-at-a-time.js'

/** Overlays that have another one as a layer: what the inner one must tell them, and they it. */
export class Nesting {
  /** Those whose watch is being set up for an overlay above. */
  private readonly arming = new Map<string, Promise<void>>()

  constructor(
    private readonly managed: ReadonlyMap<string, Managed>,
    private readonly stream: ChangeStream,
  ) {}

  /** An overlay can be reached in several ways, and is to come before all that it has as a layer. */
  above(device: string): OverlayController[] {
    const found = new Set<OverlayController>()
    for (const [other, { controller }] of this.managed) {
      if (!controller.overlay.layers.some((layer) => layer.nested?.device === device)) continue
      for (const one of this.above(other)) found.add(one)
      found.add(controller)
    }
    return [...found]
  }

  /** An overlay that was switched to a mode revalidates, which `overlay` was opened too early to see. */
  learnSwitched(overlay: OpenOverlay): void {
    for (const layer of overlay.layers) {
      const inner = this.managed.get(layer.nested?.device ?? '')
      if (inner?.controller.overlay.switchedTo !== undefined) layer.revalidates = true
    }
  }

  /** Those above an overlay that was switched now. */
  tellSwitched(device: string): void {
    for (const { controller } of this.managed.values())
      for (const layer of controller.overlay.layers)
        if (layer.nested?.device === device) layer.revalidates = true
  }

  async caughtUp(overlay: OpenOverlay): Promise<void> {
    // Closed: nothing comes any more.
    await this.stream.settle().catch(() => undefined)
    for (const { nested } of overlay.layers) await this.managed.get(nested?.device ?? '')?.controller.idle()
  }

  forward(device: string, changes: LowerChanges): void {
    for (const { controller } of this.managed.values()) {
      if (controller.follows) continue
      for (const layer of controller.overlay.layers) {
        if (layer.nested?.device === device) void this.forwardTo(controller, layer, changes)
      }
    }
  }

  private async forwardTo(
    controller: OverlayController,
    layer: OpenLayer,
    changes: LowerChanges,
  ): Promise<void> {
    for (const change of forwardedChanges(changes, layer.nested!.directory)) {
      if (change.kind & (Kind.layerDirty | Kind.directoryDirty)) {
        await this.stream.rescan(layer, change.directory)
      } else if (change.kind & Kind.directory && change.kind & (Kind.create | Kind.movedTo)) {
        await this.stream.rescan(layer, join(change.directory, change.name))
      }
      controller.accept(layer, change, native.monotonicNs())
    }
    controller.flush()
  }

  /** What the kernel keeps coherent is watched all the same for an overlay above it that has to be told. */
  async watchFor(device: string): Promise<void> {
    const inner = this.managed.get(device)
    if (inner === undefined || inner.watch.ids.length > 0) return
    await onceAtATime(this.arming, device, async () => {
      inner.watch = await this.stream.watch(inner.controller.overlay, inner.controller)
    })
  }

  /** One that was taken again has lost the watch for the overlays above it. */
  async tellAbove(device: string): Promise<void> {
    for (const { controller } of this.managed.values()) {
      const above = controller.overlay.layers.some((layer) => layer.nested?.device === device)
      if (!above || controller.follows) continue
      await this.watchFor(device)
      controller.markDirty('the overlay below was taken again')
    }
  }
}
