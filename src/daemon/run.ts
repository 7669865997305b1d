// SPDX-License-Identifier: MIT
import type { ByteString } from '../bytes.js'
import { LowerwatchError } from '../errors.js'
import { native } from '../native.js'
import { discoverOverlays, findOverlay } from '../overlay/discover.js'
import type { OverlayDescription } from '../overlay/types.js'
import { type Config, defaultConfig, loadConfig, mergeForOverlay } from './config.js'
import { createLogger } from './log.js'
import { OverlayManager, type OverlaySettings } from './manager.js'
import { report } from './report.js'
import { type ControlRequest, ControlSocket, defaultSocketPath } from './socket.js'

export interface RunOptions {
  mountPoints: ByteString[]
  all: boolean
  configFile: string | null
  socket: string | null
}

/** What the daemon needs, and why; everything else is dropped before the first thread starts. */
const capabilities = [
  'CAP_SYS_ADMIN', // fanotify filesystem marks, mounts, fspick, trusted.* attributes
  'CAP_DAC_READ_SEARCH', // open_by_handle_at, walking any layer
  'CAP_DAC_OVERRIDE', // nudge and on-vanish in directories of others
  'CAP_FOWNER', // restoring the mtime of a nudged directory
  'CAP_SYS_PTRACE', // /proc/<pid>/fd of others: who holds what
  'CAP_SETUID', // asking what other users may do: the mode that overlayfs checks
  'CAP_SETGID',
]

/**
 * The daemon: serves overlays until SIGTERM or SIGINT.
 *
 * @throws LowerwatchError when it cannot start; nothing has been changed then
 */
export async function runDaemon(options: RunOptions): Promise<void> {
  native.dropCapabilities(capabilities)
  native.requestShortSlice()
  // Before anything is said or held: a signal during start-up ends it in order, too.
  const stopped = firstSignal()
  let config = await readConfig(options)
  const log = createLogger(config.logLevel)
  const places = new Set<ByteString>()
  const manager = new OverlayManager(
    {
      wanted: (description) => config.all || isNamed(description, places),
      overlay: (description) => settingsOf(config, description),
      reconcileIntervalMs: config.reconcileIntervalMs,
    },
    log,
  )
  const closers: (() => Promise<void> | void)[] = [() => manager.close()]
  try {
    await resolvePlaces(config, places)
    // Armed before the first look at the table, so that no mount falls between.
    const mountWatch = new native.MountWatch(() => void manager.sync())
    closers.push(() => mountWatch.close())
    const status = () => report(manager, { source: mountWatch.source, reason: mountWatch.reason })
    const socketPath = options.socket ?? config.socket ?? defaultSocketPath()
    const socket = await ControlSocket.listen(socketPath, (request) => answer(request, manager, status))
    closers.push(() => socket.close())
    if (config.metricsSocket !== null) {
      const { serveMetrics } = await import('./metrics.js')
      closers.push(await serveMetrics(config.metricsSocket, status))
    }
    await manager.sync(!config.all)
    const reload = async () => {
      native.notifySystemd(`RELOADING=1\nMONOTONIC_USEC=${native.monotonicNs() / 1000n}`)
      try {
        const next = await readConfig(options)
        await resolvePlaces(next, places)
        config = next
        log.level = next.logLevel
        await manager.reload()
        log.info('configuration reloaded')
      } catch (error) {
        log.error(`configuration not reloaded: ${lineOf(error)}`)
      }
      native.notifySystemd('READY=1')
    }
    process.on('SIGHUP', () => void reload())
    log.info({ overlays: manager.managed.size, socket: socketPath, mountWatch: mountWatch.source }, 'ready')
    native.notifySystemd('READY=1')
    log.info({ signal: await stopped }, 'stopping')
  } finally {
    native.notifySystemd('STOPPING=1')
    for (const close of closers.reverse()) await close()
  }
}

async function readConfig(options: RunOptions): Promise<Config> {
  const config = options.configFile === null ? defaultConfig() : await loadConfig(options.configFile)
  config.all ||= options.all
  config.overlays = [...options.mountPoints, ...config.overlays]
  if (!config.all && config.overlays.length === 0) {
    throw new LowerwatchError('USAGE', 'no overlay to watch', { hint: 'give MOUNTPOINT or --all' })
  }
  return config
}

/** Mount points as the mount table has them, so that a named overlay is found again after it was mounted anew. */
async function resolvePlaces(config: Config, places: Set<ByteString>): Promise<void> {
  const lane = new native.Lane('places')
  try {
    const found: ByteString[] = []
    const present = await discoverOverlays(lane)
    for (const path of config.overlays) {
      const description = await findOverlay(present, path, lane)
      found.push(...description.mounts.map(({ mountPoint }) => mountPoint))
    }
    places.clear()
    for (const place of found) places.add(place)
  } finally {
    lane.close()
  }
}

function isNamed(description: OverlayDescription, places: ReadonlySet<ByteString>): boolean {
  return description.mounts.some(({ mountPoint }) => places.has(mountPoint))
}

function settingsOf(config: Config, description: OverlayDescription): OverlaySettings {
  const named = description.mounts.find(({ mountPoint }) => config.overlay.has(mountPoint))
  const { lowerdir, upperdir, dataOnly, ...policy } = mergeForOverlay(
    config,
    (named ?? description.mounts[0]!).mountPoint,
  )
  return {
    policy,
    layers: {
      lowerdir: lowerdir ?? undefined,
      upperdir: upperdir ?? undefined,
      dataOnly: dataOnly ?? undefined,
    },
  }
}

async function answer(
  request: ControlRequest,
  manager: OverlayManager,
  status: () => Promise<unknown>,
): Promise<unknown> {
  switch (request.request) {
    case 'status':
      return status()
    case 'settle':
      await manager.settle()
      return status()
    default:
      throw new LowerwatchError('USAGE', `unknown request "${request.request}"`, {
        hint: 'status or settle',
      })
  }
}

function firstSignal(): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, resolve)
  })
}

function lineOf(error: unknown): string {
  if (error instanceof LowerwatchError) return error.line
  return error instanceof Error ? error.message : String(error)
}
