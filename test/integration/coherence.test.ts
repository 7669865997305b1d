// SPDX-License-Identifier: MIT

/**
 * Every row with the daemon: right soon after the change; or, where a holder pins what a stock kernel cannot
 * cure, named with that holder's pid and right soon after it let go. One daemon serves all overlays of a file
 * system's rows at once.
 *
 * With LOWERWATCH_LOWER_CHANGES, in a patched kernel (test/kernel/daemon.test.ts): held rows are right as well; and
 * where the kernel follows by itself, each is right when the changing call has returned, and the daemon does nothing.
 */
import { afterAll, beforeAll, describe, expect, onTestFailed, test } from 'vitest'
import { casesByFileSystem } from './cases/index.js'
import { mountCase, openScene, whyNot } from './cases/scene.js'
import type { Case, Scene } from './cases/types.js'
import { Cleanup } from './fixture/cleanup.js'
import { compareTrees } from './fixture/compare.js'
import { type Daemon, pathOf, startDaemon } from './fixture/daemon.js'
import { lowerChanges } from './fixture/environment.js'
import { eventually } from './fixture/eventually.js'
import type { LowerFs } from './fixture/lowers.js'
import type { Overlay } from './fixture/overlay.js'

/** Not the target (20 ms, bursts 100 ms; see docs/benchmarks.md) but what a loaded machine must still keep. */
const limitMs = 1_000
const burstLimitMs = 2_000
const kernelFollows = lowerChanges === 'notify' || lowerChanges === 'reval'

async function unresolved(daemon: Daemon, scene: Scene) {
  return (await daemon.overlay(scene.overlay.mountPoint)).unresolved
}

/** Named with the holder, and nothing else is. */
async function checkNamed(row: Case, daemon: Daemon, scene: Scene): Promise<string | null> {
  const entries = await unresolved(daemon, scene)
  const { named = '', namedToo = named } = row
  const other = entries.find(({ path }) => ![named, namedToo].some((top) => isAtOrBelow(pathOf(path), top)))
  if (other !== undefined) return `names also ${JSON.stringify(other)}`
  if (!entries.some(({ path }) => pathOf(path) === namedToo)) return `status does not name ${namedToo}`
  const entry = entries.find(({ path }) => pathOf(path) === named)
  if (entry === undefined) return `status does not name ${named}: ${JSON.stringify(entries)}`
  const holder = entry.holders.find(({ pid }) => pid === scene.holder?.pid)
  return holder === undefined ? `not the holder's pid: ${JSON.stringify(entry)}` : null
}

const isAtOrBelow = (path: string, top: string) => path === top || path.startsWith(`${top}/`) || top === ''

/** A patched kernel does it, or is told: nothing is dropped, nothing is left. */
async function checkRung(daemon: Daemon, scene: Scene): Promise<void> {
  const status = await daemon.overlay(scene.overlay.mountPoint)
  expect(status).toMatchObject({ rung: kernelFollows ? 'kernel' : 'invalidate', nudges: 0, unresolved: [] })
  if (kernelFollows) expect(status).toMatchObject({ changes: 0, refreshes: 0 })
}

/** The whole tree, as the independent comparer sees it. */
async function checkTree({ overlay, reader }: Scene, lowerFs: LowerFs): Promise<string | null> {
  const fresh = overlay.fresh()
  try {
    const differences = await compareTrees(overlay.mountPoint, fresh.overlay.mountPoint, {
      reader,
      content: lowerFs !== 'cgroup2',
    })
    return differences.length === 0 ? null : JSON.stringify(differences.slice(0, 5))
  } finally {
    fresh.unmount()
  }
}

describe.each(casesByFileSystem.map(({ lowerFs, rows }) => [lowerFs, rows] as const))(
  'with the daemon, lower on %s',
  (lowerFs, rows) => {
    const overlays = new Map<Case, Overlay>()
    const cleanup = new Cleanup()
    let daemon: Daemon

    beforeAll(async () => {
      for (const row of rows) {
        if ((await whyNot(row, lowerFs)) !== '') continue
        const overlay = await mountCase(row, lowerFs)
        cleanup.defer(overlay.mountPoint, () => overlay.unmount())
        overlays.set(row, overlay)
      }
      if (overlays.size === 0) return
      daemon = await startDaemon([...overlays.values()].flatMap((overlay) => overlay.mountPoints))
      cleanup.defer('daemon', () => daemon.stop())
    }, 60_000)

    afterAll(() => cleanup.run(), 60_000)

    test.for(rows.map((row) => [row.name, row] as const))(
      '%s',
      { timeout: 30_000 },
      async ([, row], { skip }) => {
        const overlay = overlays.get(row)
        if (overlay === undefined) return skip(await whyNot(row, lowerFs))
        const logged = daemon.log.length
        onTestFailed(() => console.error(`the daemon's log:\n${daemon.log.slice(logged).join('\n')}`))
        const { scene, close } = await openScene(row, overlay)
        try {
          await row.change(scene)
          const withinMs = kernelFollows ? 0 : row.burst === true ? burstLimitMs : limitMs
          const check = () => row.check(scene)
          const waits = row.expect === 'coherent-after-holder' && lowerChanges === ''
          if (waits) {
            const named = await eventually(() => checkNamed(row, daemon, scene), { withinMs: 5_000 })
            expect(named.wrong, 'unresolved staleness in status').toBeNull()
            expect(await check(), 'stale while it is held').not.toBeNull()
            await scene.holder?.stop()
            scene.holder = null
          }
          const { wrong, latencyMs, looks } = await eventually(check, { withinMs })
          expect(wrong, `after ${Math.round(latencyMs)} ms and ${looks} looks`).toBeNull()
          await daemon.settle()
          expect(await check(), 'right, and stays right').toBeNull()
          expect(await checkTree(scene, lowerFs), 'against a fresh mount').toBeNull()
          if (lowerChanges !== '') await checkRung(daemon, scene)
          if (waits) {
            const left = () => unresolved(daemon, scene).then((entries) => entries[0]?.kind ?? null)
            expect((await eventually(left, { withinMs: 5_000 })).wrong, 'still named').toBeNull()
          }
        } finally {
          await close()
        }
      },
    )
  },
)
