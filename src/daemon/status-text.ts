// SPDX-License-Identifier: MIT
import { display, fromText } from '../bytes.js'
import type {
  DaemonStatus,
  HolderStatus,
  JsonBytes,
  LayerStatus,
  OverlayStatus,
  UnresolvedStatus,
} from './status.js'

/** The status for a person: one paragraph per overlay, no line that says nothing. */
export function statusText(status: DaemonStatus): string {
  const { mountWatch, watcher } = status
  const head = `lowerwatch ${status.version}, pid ${status.pid}, since ${status.startedAt}, Linux ${status.kernel}`
  const mounts = `mount table: ${mountWatch.source}${because(mountWatch.reason)}`
  const events = [
    `${watcher.eventsRead} events read`,
    `${watcher.eventsOutside} outside the layers`,
    `${watcher.overflows} overflows`,
    `${watcher.directoriesWatched} directories watched`,
  ].join(', ')
  const overlays = status.overlays.length === 0 ? ['no overlays'] : status.overlays.flatMap(overlayText)
  return [head, mounts, events, ...overlays].join('\n')
}

function overlayText(overlay: OverlayStatus): string[] {
  const { latencyMs } = overlay
  const lines = [
    '',
    `${overlay.mountPoints.map(show).join(', ') || '(not mounted)'} (${overlay.device})`,
    `  refresh by ${overlay.rung}${because(overlay.rungReasons.join('; '))}`,
    ...overlay.layers.map(layerText),
  ]
  if (overlay.unmappable !== '') lines.push(`  names cannot be mapped: ${overlay.unmappable}`)
  lines.push(
    `  ${overlay.changes} changes, ${overlay.refreshes} refreshes in ` +
      `${round(overlay.refreshTimeMs)} ms, ${overlay.refreshesAvoided} not needed, ` +
      `${overlay.nudges} nudges, ${overlay.swaps} swaps`,
  )
  if (latencyMs.count > 0) {
    const { p50, p90, p99, max, count } = latencyMs
    lines.push(
      `  latency of ${count}: p50 ${round(p50)}, p90 ${round(p90)}, p99 ${round(p99)}, max ${round(max)} ms`,
    )
  }
  return [...lines, ...overlay.unresolved.flatMap(unresolvedText)]
}

function layerText(layer: LayerStatus): string {
  const scope = layer.scope === null ? 'not watched' : `watched by ${layer.scope}`
  const directories = layer.directories > 0 ? `, ${layer.directories} directories` : ''
  const rest = layer.unwatched.length > 0 ? `, not watched: ${layer.unwatched.map(show).join(' ')}` : ''
  return `  ${layer.role} ${show(layer.path)} (${layer.fsType}) ${scope}${directories}${rest}${because(layer.reasons.join('; '))}`
}

function unresolvedText(stale: UnresolvedStatus): string[] {
  return [
    `  stale since ${stale.since}: ${show(stale.path) || '/'} (${stale.kind})`,
    ...stale.holders.map((holder) => `    held by ${holderText(holder)}`),
  ]
}

/** One line on a process that pins something: `1234 (bash) cwd src/lib`. */
export function holderText(holder: HolderStatus): string {
  const via = holder.via === 'fd' && holder.fd !== null ? `fd ${holder.fd}` : holder.via
  return `${holder.pid} (${holder.command}) ${via} ${show(holder.path) || '/'}`
}

/** A path out of JSON, for a person. */
export function show(path: JsonBytes): string {
  return display(typeof path === 'string' ? fromText(path) : toBytes(path.base64))
}

function toBytes(base64: string): string {
  return Buffer.from(base64, 'base64').toString('latin1')
}

function because(reason: string): string {
  return reason === '' ? '' : ` [${reason}]`
}

function round(value: number): string {
  return value >= 100 ? value.toFixed(0) : value >= 1 ? value.toFixed(1) : value.toFixed(3)
}
