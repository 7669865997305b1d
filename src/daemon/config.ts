// SPDX-License-Identifier: MIT
import { readFile } from 'node:fs/promises'
import type { ByteString } from '../bytes.js'
import { LowerwatchError } from '../errors.js'
import type { RefreshPolicy } from '../refresh/policy.js'

/** What happens to the upper's copy of a directory whose lower vanished; `keep` is behaviour 2, the default. */
export type OnVanish = 'keep' | 'archive' | 'prune'
export type LogLevel = 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'fatal' | 'silent'

export interface Config {
  /** Mount points. */
  overlays: ByteString[]
  /** Every overlay of the mount namespace. */
  all: boolean
  socket: string | null
  metricsSocket: string | null
  logLevel: LogLevel
  /** Share of wall time that refreshes of one overlay may take, 0.001 to 1. */
  refreshShare: number
  /** How often kernfs layers are looked at for what no event tells. */
  reconcileIntervalMs: number
  onVanish: OnVanish
  swap: 'auto' | 'never'
  dropCaches: boolean
  lowerChanges: RefreshPolicy['lowerChanges']
  nudge: boolean
  /** Nudge directories that the upper does not have yet, which copies them up. */
  nudgeCopyUp: boolean
  /** Tables `[overlay."/merged"]`, by mount point. */
  overlay: Map<ByteString, OverlayOverrides>
}

export interface OverlayOverrides {
  onVanish?: OnVanish | undefined
  swap?: 'auto' | 'never' | undefined
  lowerChanges?: RefreshPolicy['lowerChanges'] | undefined
  nudge?: boolean | undefined
  nudgeCopyUp?: boolean | undefined
  refreshShare?: number | undefined
  /** Absolute paths of the layers, for an overlay that was mounted with relative ones. */
  lowerdir?: ByteString[] | undefined
  upperdir?: ByteString | undefined
  dataOnly?: ByteString[] | undefined
}

export type OverlayConfig = Pick<
  Config,
  | 'refreshShare'
  | 'reconcileIntervalMs'
  | 'onVanish'
  | 'swap'
  | 'dropCaches'
  | 'lowerChanges'
  | 'nudge'
  | 'nudgeCopyUp'
> & { lowerdir: ByteString[] | null; upperdir: ByteString | null; dataOnly: ByteString[] | null }

export function defaultConfig(): Config {
  return {
    overlays: [],
    all: false,
    socket: null,
    metricsSocket: null,
    logLevel: 'info',
    refreshShare: 0.1,
    reconcileIntervalMs: 5000,
    onVanish: 'keep',
    swap: 'auto',
    dropCaches: false,
    lowerChanges: 'leave',
    nudge: true,
    nudgeCopyUp: false,
    overlay: new Map(),
  }
}

/**
 * Reads a TOML file. Rejects with CONFIG and `FILE:LINE: what is wrong`; a key that does not exist, a wrong type
 * and a value out of range are all errors.
 */
export async function loadConfig(file: string): Promise<Config> {
  const text = await readText(file)
  // Not needed by a daemon without a file, which should be ready sooner.
  const { parseConfig } = await import('./config-schema.js')
  return parseConfig(text, file)
}

async function readText(file: string): Promise<string> {
  let bytes: Buffer
  try {
    bytes = await readFile(file)
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code
    const what = code === 'ENOENT' ? 'no such file' : code === 'EACCES' ? 'not permitted' : String(code)
    throw new LowerwatchError('CONFIG', `${file}: ${what}`, { cause })
  }
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch (cause) {
    throw new LowerwatchError('CONFIG', `${file}: not UTF-8, which TOML is`, { cause })
  }
}

/** What holds for the overlay at `mountPoint`: its own table first, then the general keys. */
export function mergeForOverlay(config: Config, mountPoint: ByteString): OverlayConfig {
  const own = config.overlay.get(mountPoint) ?? {}
  return {
    refreshShare: own.refreshShare ?? config.refreshShare,
    reconcileIntervalMs: config.reconcileIntervalMs,
    onVanish: own.onVanish ?? config.onVanish,
    swap: own.swap ?? config.swap,
    dropCaches: config.dropCaches,
    lowerChanges: own.lowerChanges ?? config.lowerChanges,
    nudge: own.nudge ?? config.nudge,
    nudgeCopyUp: own.nudgeCopyUp ?? config.nudgeCopyUp,
    lowerdir: own.lowerdir ?? null,
    upperdir: own.upperdir ?? null,
    dataOnly: own.dataOnly ?? null,
  }
}
