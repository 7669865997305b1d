// SPDX-License-Identifier: MIT
import { readFileSync } from 'node:fs'
import { release } from 'node:os'
import { toJson } from '../bytes.js'
import type { Lane } from '../native.js'
import { type MountTable, readMountTable } from '../overlay/discover.js'
import { ladder, type RungName } from '../refresh/ladder.js'
import type { Unresolved } from '../refresh/unresolved.js'
import type { WatchedLayer } from '../watch/stream.js'
import type { Managed, OverlayManager } from './manager.js'
import type { DaemonStatus, LayerStatus, OverlayStatus, UnresolvedStatus } from './status.js'

const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'))
const startedAt = new Date().toISOString()

/** Everything that the daemon knows about itself now. */
export async function report(
  manager: OverlayManager,
  mountWatch: DaemonStatus['mountWatch'],
): Promise<DaemonStatus> {
  const overlays: OverlayStatus[] = []
  let table: Promise<MountTable> | undefined
  const once = (lane: Lane) => {
    table ??= readMountTable(lane)
    return table
  }
  for (const managed of manager.managed.values()) overlays.push(await overlayStatus(managed, once))
  return {
    version,
    pid: process.pid,
    startedAt,
    kernel: release(),
    overlays,
    watcher: manager.stream.counters(),
    mountWatch,
  }
}

async function overlayStatus(
  { controller, watch }: Managed,
  table: (lane: Lane) => Promise<MountTable>,
): Promise<OverlayStatus> {
  const { overlay, policy, statistics, unresolved } = controller
  const rungs = await ladder(overlay, policy, controller.follows, table)
  const primary: RungName[] = ['kernel', 'invalidate', 'remount', 'swap', 'drop-caches']
  const rung = rungs.find(({ name, unavailable }) => primary.includes(name) && unavailable === '')
  const watched = watch.layers()
  return {
    device: overlay.description.device,
    mountPoints: overlay.description.mounts.map(({ mountPoint }) => toJson(mountPoint)),
    layers: overlay.layers.map((layer) =>
      layerStatus(
        layer,
        watched.find((entry) => entry.layer === layer),
      ),
    ),
    unmappable: overlay.unmappable,
    rung: rung?.name ?? 'none',
    rungReasons: rungs
      .filter(({ unavailable }) => unavailable !== '')
      .map(({ name, unavailable }) => `${name}: ${unavailable}`),
    changes: statistics.changes,
    refreshes: statistics.refreshes,
    refreshesAvoided: statistics.refreshesAvoided,
    nudges: statistics.nudges,
    swaps: statistics.swaps,
    refreshTimeMs: statistics.refreshTimeMs,
    latencyMs: statistics.latency(),
    unresolved: unresolved.list().map(unresolvedStatus),
  }
}

function layerStatus(layer: WatchedLayer['layer'], watched: WatchedLayer | undefined): LayerStatus {
  const armed = watched?.armed
  const reasons = [...(armed?.reasons ?? [])]
  if (armed?.unwatchedReason) reasons.push(armed.unwatchedReason)
  if (layer.cloneReason !== '') reasons.push(layer.cloneReason)
  return {
    path: toJson(layer.path),
    role: layer.role,
    fsType: layer.fsType,
    scope: armed?.scope ?? null,
    reasons,
    directories: armed?.directories ?? 0,
    unwatched: (armed?.unwatched ?? []).map(toJson),
  }
}

function unresolvedStatus({ path, kind, sinceMs, holders }: Unresolved): UnresolvedStatus {
  return {
    path: toJson(path),
    kind,
    since: new Date(sinceMs).toISOString(),
    holders: holders.map((holder) => ({ ...holder, path: toJson(holder.path) })),
  }
}
