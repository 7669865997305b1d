// SPDX-License-Identifier: MIT
import { createServer } from 'node:http'
import type { DaemonStatus, JsonBytes } from './status.js'

/** Closes the socket. */
export type CloseMetrics = () => Promise<void>

/**
 * Serves the status as Prometheus metrics over HTTP on a unix socket (mode 0600): `curl --unix-socket PATH
 * http://localhost/metrics`. prom-client is loaded only when this is asked for.
 */
export async function serveMetrics(path: string, status: () => Promise<DaemonStatus>): Promise<CloseMetrics> {
  const { Gauge, Registry } = await import('prom-client')
  const server = createServer(async (_request, response) => {
    try {
      const registry = new Registry()
      const gauge = (name: string, help: string, labelNames: string[]) =>
        new Gauge({ name: `lowerwatch_${name}`, help, labelNames, registers: [registry] })
      fill(await status(), gauge)
      response.setHeader('content-type', registry.contentType)
      response.end(await registry.metrics())
    } catch (error) {
      response.statusCode = 500
      response.end(`${String(error)}\n`)
    }
  })
  const umask = process.umask(0o177)
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen(path, resolve)
    })
  } finally {
    process.umask(umask)
  }
  return () => new Promise((resolve) => server.close(() => resolve()))
}

type MakeGauge = (
  name: string,
  help: string,
  labels: string[],
) => { set(labels: Record<string, string>, value: number): void }

function fill(status: DaemonStatus, gauge: MakeGauge): void {
  const of = ['overlay']
  const changes = gauge('changes', 'Names and directories that changed in lower layers', of)
  const refreshes = gauge('refreshes', 'Refreshes made', of)
  const avoided = gauge('refreshes_avoided', 'Rounds in which nothing stale was cached', of)
  const nudges = gauge('nudges', 'Held listings cured by a nudge', of)
  const swaps = gauge('swaps', 'Overlays replaced by a fresh one', of)
  const seconds = gauge('refresh_seconds', 'Time spent refreshing', of)
  const latency = gauge('refresh_latency_seconds', 'From reading an event to the end of the refresh', [
    'overlay',
    'quantile',
  ])
  const unresolved = gauge('unresolved', 'Stale answers that a holder keeps', of)
  for (const entry of status.overlays) {
    const overlay = textOf(entry.mountPoints[0] ?? entry.device)
    changes.set({ overlay }, entry.changes)
    refreshes.set({ overlay }, entry.refreshes)
    avoided.set({ overlay }, entry.refreshesAvoided)
    nudges.set({ overlay }, entry.nudges)
    swaps.set({ overlay }, entry.swaps)
    seconds.set({ overlay }, entry.refreshTimeMs / 1e3)
    latency.set({ overlay, quantile: '0.5' }, entry.latencyMs.p50 / 1e3)
    latency.set({ overlay, quantile: '0.99' }, entry.latencyMs.p99 / 1e3)
    unresolved.set({ overlay }, entry.unresolved.length)
  }
  gauge('events', 'Events read', []).set({}, status.watcher.eventsRead)
  gauge('overflows', 'Event queue overflows', []).set({}, status.watcher.overflows)
}

function textOf(bytes: JsonBytes): string {
  return typeof bytes === 'string' ? bytes : `base64:${bytes.base64}`
}
