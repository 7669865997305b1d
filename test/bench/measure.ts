// SPDX-License-Identifier: MIT
import { readFileSync, writeFileSync } from 'node:fs'
import { cases } from '../integration/cases/index.js'
import { mountCase, openScene, whyNot } from '../integration/cases/scene.js'
import type { Case } from '../integration/cases/types.js'
import { runProgram, startDaemon } from '../integration/fixture/daemon.js'
import { eventually } from '../integration/fixture/eventually.js'
import { makeOverlay, type Overlay } from '../integration/fixture/overlay.js'
import type { System } from './systems.js'

/** Nanoseconds per change; null: it never came right. */
export type Sample = number | null

export const kinds = ['create', 'replace', 'remove', 'burst', 'listing'] as const
export type Kind = (typeof kinds)[number]

/** Per turn: how many changes, how long is never, and how long the machine is left alone before each. */
const turns: Record<Kind, { changes: number; timeoutMs: number; gapUs: number }> = {
  create: { changes: 25, timeoutMs: 300, gapUs: 40_000 },
  replace: { changes: 25, timeoutMs: 300, gapUs: 40_000 },
  remove: { changes: 25, timeoutMs: 300, gapUs: 40_000 },
  burst: { changes: 2, timeoutMs: 5_000, gapUs: 500_000 },
  listing: { changes: 3, timeoutMs: 300, gapUs: 40_000 },
}

const plainOverlay = () => makeOverlay({ lowers: 1, upper: true, lowerFs: 'tmpfs' })

async function poll(poller: string, kind: Kind, overlay: Overlay): Promise<Sample[]> {
  const { changes, timeoutMs, gapUs } = turns[kind]
  const numbers = [changes, timeoutMs, gapUs].map(String)
  const ran = await runProgram(poller, kind, overlay.mountPoint, overlay.low(1).toString(), ...numbers)
  if (ran.code !== 0) throw new Error(`poller ${kind}: ${ran.stderr}`)
  return ran.stdout
    .trim()
    .split('\n')
    .map((line) => (line === '-1' ? null : Number(line)))
}

/** All kinds of change once, on an overlay of its own. */
export async function measureTurn(system: System, poller: string): Promise<Map<Kind, Sample[]>> {
  const overlay = await plainOverlay()
  try {
    const running = await system.start(overlay)
    try {
      const samples = new Map<Kind, Sample[]>()
      for (const kind of kinds) samples.set(kind, await poll(poller, kind, overlay))
      return samples
    } finally {
      await running.stop()
    }
  } finally {
    await overlay.unmount()
  }
}

export interface CaseResult {
  row: Case
  lowerFs: string
  /**
   * One of each turn: from the end of the change; of `coherent-after-holder` from when the holder had let go.
   * Null: never.
   */
  latenciesMs: (number | null)[]
}

const neverMs = 300
/** A holder that let go is looked for again from time to time. */
const neverHeldMs = 1_500
const neverBurstMs = 2_000

async function measureCase(
  system: System,
  row: Case,
  lowerFs: Case['lowerFs'][number],
): Promise<number | null> {
  const overlay = await mountCase(row, lowerFs)
  try {
    const running = await system.start(overlay)
    const { scene, close } = await openScene(row, overlay)
    try {
      await row.change(scene)
      if (row.expect === 'coherent-after-holder') {
        await scene.holder?.stop()
        scene.holder = null
      }
      const withinMs = row.burst === true ? neverBurstMs : row.expect === 'coherent' ? neverMs : neverHeldMs
      const { wrong, latencyMs } = await eventually(() => row.check(scene), { withinMs })
      return wrong === null ? latencyMs : null
    } finally {
      await close()
      await running.stop()
    }
  } finally {
    await overlay.unmount()
  }
}

/**
 * Every row that a stock kernel gets wrong, on tmpfs or, where it is about cgroups, on cgroup2. The systems take turns,
 * row by row.
 */
export async function measureCases(systems: System[], turns: number): Promise<Map<string, CaseResult[]>> {
  const results = new Map<string, CaseResult[]>(systems.map(({ name }) => [name, []]))
  for (const row of cases) {
    const lowerFs = row.lowerFs.includes('tmpfs') ? 'tmpfs' : 'cgroup2'
    if (row.stockCoherent === true || (await whyNot(row, lowerFs)) !== '') continue
    for (const { name } of systems) results.get(name)?.push({ row, lowerFs, latenciesMs: [] })
    for (let turn = 0; turn < turns; turn++) {
      for (const system of systems) {
        const result = results.get(system.name)?.at(-1)
        result?.latenciesMs.push(await measureCase(system, row, lowerFs))
      }
    }
  }
  return results
}

export interface Resources {
  readyMs: number[]
  readyTenMs: number[]
  residentBytes: number
  peakBytes: number
  uncachedRefreshes: number
  uncachedNames: number
}

function memory(pid: number, field: 'VmRSS' | 'VmHWM'): number {
  const line = new RegExp(`^${field}:\\s+(\\d+) kB$`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'utf8'))
  return Number(line?.[1]) * 1024
}

async function readyTimes(mountPoints: string[], times: number): Promise<number[]> {
  const readyMs: number[] = []
  for (let time = 0; time < times; time++) {
    const daemon = await startDaemon(mountPoints)
    readyMs.push(daemon.readyMs)
    await daemon.settle()
    await daemon.stop()
  }
  return readyMs
}

const uncachedNames = 1_000

/** What the daemon costs beside latency. */
export async function measureResources(poller: string): Promise<Resources> {
  const overlays: Overlay[] = []
  try {
    for (let count = 0; count < 10; count++) overlays.push(await plainOverlay())
    const mountPoints = overlays.map((overlay) => overlay.mountPoint)
    const readyMs = await readyTimes(mountPoints.slice(0, 1), 10)
    const readyTenMs = await readyTimes(mountPoints, 10)
    const daemon = await startDaemon(mountPoints)
    try {
      const [first, second] = overlays as [Overlay, Overlay]
      await daemon.settle()
      const refreshes = async () => (await daemon.overlay(second.mountPoint)).refreshes
      const before = await refreshes()
      for (let name = 0; name < uncachedNames; name++) writeFileSync(second.low(1, `unseen${name}`), '')
      await daemon.settle()
      const uncachedRefreshes = (await refreshes()) - before
      // Memory after work, not before it.
      for (const kind of ['create', 'replace', 'burst'] as const) await poll(poller, kind, first)
      await daemon.settle()
      return {
        readyMs,
        readyTenMs,
        residentBytes: memory(daemon.pid, 'VmRSS'),
        peakBytes: memory(daemon.pid, 'VmHWM'),
        uncachedRefreshes,
        uncachedNames,
      }
    } finally {
      await daemon.stop()
    }
  } finally {
    for (const overlay of overlays) await overlay.unmount()
  }
}
