// SPDX-License-Identifier: MIT
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { release } from 'node:os'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import type { DaemonStatus } from '../daemon/status.js'
import { LowerwatchError } from '../errors.js'
import { type Scene, scenes } from './demo-scenes.js'
import { openStage, type Stage } from './demo-stage.js'

const program = fileURLToPath(new URL('./main.js', import.meta.url))
const inside = 'LOWERWATCH_DEMO_INSIDE'
/** A scene that is not right after this long has failed. */
const patienceMs = 2_000

interface SceneResult {
  title: string
  right: string
  /** What the stock kernel answered after the change. */
  stock: string
  /** What was answered with the daemon, and how soon after the change it was right; null when never. */
  served: string
  afterMs: number | null
  skipped: string
}

/** `lowerwatch demo [--json]`: the main job, end to end, on throw-away overlays in a private mount namespace. */
export async function command(_positional: string[], options: Record<string, unknown>): Promise<number> {
  if (process.env[inside] === undefined) return inPrivateNamespace(process.argv.slice(2))
  const stage = await openStage()
  try {
    const results = scenes.map((scene) => withoutDaemon(stage, scene))
    const daemon = await startDaemon(stage)
    let status: DaemonStatus
    try {
      for (const [index, scene] of scenes.entries()) withDaemon(stage, scene, results[index]!)
      status = await daemon.status()
    } finally {
      await daemon.stop()
    }
    print(results, status, options.json === true)
    return results.some((result) => result.skipped === '' && result.afterMs === null) ? 1 : 0
  } finally {
    await stage.close()
  }
}

async function inPrivateNamespace(args: string[]): Promise<number> {
  const flags =
    process.getuid?.() === 0
      ? ['--mount', '--propagation', 'private']
      : ['--user', '--map-root-user', '--mount', '--cgroup', '--propagation', 'private']
  const child = spawn('unshare', [...flags, '--', process.execPath, program, ...args], {
    stdio: 'inherit',
    env: { ...process.env, [inside]: '1' },
  })
  const [code] = await once(child, 'exit').catch((error) => {
    throw new LowerwatchError('MISSING_TOOL', 'unshare(1) is missing', {
      hint: 'install util-linux',
      cause: error,
    })
  })
  return (code as number | null) ?? 2
}

function withoutDaemon(stage: Stage, scene: Scene): SceneResult {
  const { title, right } = scene
  const result = { title, right, stock: '', served: '', afterMs: null, skipped: '' }
  const overlay = stage[scene.overlay]
  if (overlay === null) return { ...result, skipped: stage.cgroupReason }
  scene.prepare(overlay, 'stock')
  scene.change(overlay, 'stock')
  const stock = scene.look(overlay, 'stock')
  scene.cleanUp?.(overlay, 'stock')
  return { ...result, stock }
}

function withDaemon(stage: Stage, scene: Scene, result: SceneResult): void {
  const overlay = stage[scene.overlay]
  if (overlay === null) return
  scene.prepare(overlay, 'served')
  scene.change(overlay, 'served')
  const changedAt = performance.now()
  do {
    result.served = scene.look(overlay, 'served')
    if (result.served === scene.right) result.afterMs = performance.now() - changedAt
  } while (result.afterMs === null && performance.now() - changedAt < patienceMs)
  scene.cleanUp?.(overlay, 'served')
}

async function startDaemon(stage: Stage) {
  const overlays = [stage.directory, stage.cgroup].flatMap((overlay) => (overlay ? [overlay.merged] : []))
  const socket = `${stage.scratch}/run/control.sock`
  const child: ChildProcess = spawn(process.execPath, [program, 'run', ...overlays, '--socket', socket], {
    stdio: ['ignore', 'ignore', 'pipe'],
    // Locks of throw-away overlays are not the machine's.
    env: { ...process.env, RUNTIME_DIRECTORY: `${stage.scratch}/run` },
  })
  const lines = createInterface({ input: child.stderr! })
  const log: string[] = []
  await new Promise<void>((resolve, reject) => {
    child.once('exit', (code) => reject(new Error(`the daemon ended with ${code}: ${log.join('\n')}`)))
    lines.on('line', (line) => {
      log.push(line)
      if (line.includes('"ready"')) resolve()
    })
  })
  return {
    async status(): Promise<DaemonStatus> {
      const args = [program, 'status', '--json', '--socket', socket]
      return JSON.parse((await promisify(execFile)(process.execPath, args)).stdout) as DaemonStatus
    },
    async stop(): Promise<void> {
      if (child.exitCode !== null) return
      child.kill('SIGTERM')
      await once(child, 'exit')
    },
  }
}

function print(results: SceneResult[], status: DaemonStatus, json: boolean): void {
  if (json) {
    process.stdout.write(`${JSON.stringify({ kernel: release(), scenes: results, status })}\n`)
    return
  }
  const width = Math.max(...results.map((result) => result.title.length))
  const row = (cells: string[]) =>
    `${cells[0]!.padEnd(width)}  ${cells[1]!.padEnd(14)}${cells[2]!.padEnd(16)}${cells[3]}`
  const lines = [`An overlay whose lower layer changes, on Linux ${release()}`, '']
  lines.push(row(['what changes below', 'stock kernel', 'with lowerwatch', 'right after']))
  for (const { title, stock, served, afterMs, skipped } of results) {
    const after = afterMs === null ? 'never' : `${afterMs.toFixed(2)} ms`
    lines.push(
      skipped === '' ? row([title, stock, served, after]) : `${title.padEnd(width)}  skipped: ${skipped}`,
    )
  }
  lines.push('')
  for (const overlay of status.overlays) {
    const scopes = overlay.layers
      .filter((layer) => layer.role !== 'upper')
      .map((layer) => `${layer.fsType} by ${layer.scope}`)
    lines.push(`watched ${scopes.join(', ')}; refreshed by ${overlay.rung}: ${overlay.refreshes} times`)
  }
  const failed = results.filter((result) => result.skipped === '' && result.afterMs === null).length
  const skipped = results.filter((result) => result.skipped !== '').length
  lines.push('', `${results.length - failed - skipped} passed, ${failed} failed, ${skipped} skipped`)
  process.stdout.write(`${lines.join('\n')}\n`)
}
