// SPDX-License-Identifier: MIT

/** What must cost no refresh: names that nobody looked at, and events elsewhere on the file system. */
import { mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { holds, put, replace, touch } from './cases/looks.js'
import { Cleanup } from './fixture/cleanup.js'
import { type Daemon, startDaemon } from './fixture/daemon.js'
import { eventually } from './fixture/eventually.js'
import { makeOverlay, type Overlay, type OverlayRequest } from './fixture/overlay.js'

vi.setConfig({ testTimeout: 30_000 })

let cleanup: Cleanup

beforeEach(() => {
  cleanup = new Cleanup()
})
afterEach(() => cleanup.run(), 30_000)

async function start(request: Partial<OverlayRequest> = {}): Promise<{ overlay: Overlay; daemon: Daemon }> {
  const overlay = await makeOverlay({ lowers: 1, upper: true, lowerFs: 'tmpfs', ...request })
  cleanup.defer('overlay', () => overlay.unmount())
  const daemon = await startDaemon(overlay.mountPoints)
  cleanup.defer('daemon', () => daemon.stop())
  await daemon.settle()
  return { overlay, daemon }
}

async function costs(daemon: Daemon, overlay: Overlay) {
  await daemon.settle()
  const { refreshes, nudges, swaps, changes } = await daemon.overlay(overlay.mountPoint)
  return { refreshes, nudges, swaps, changes }
}

test('changes to names that the overlay has not cached cost no refresh', async () => {
  const { overlay, daemon } = await start({ prepare: (o) => mkdirSync(o.low(1, 'd')) })
  const before = await costs(daemon, overlay)
  for (let index = 0; index < 500; index++) {
    put(overlay.low(1, `d/unseen${index}`), 'x')
    replace(overlay.low(1, `d/unseen${index}`), 'y')
    rmSync(overlay.low(1, `d/unseen${index}`))
  }
  const after = await costs(daemon, overlay)
  expect(after.changes, 'the changes were seen').toBeGreaterThan(before.changes)
  expect(after).toMatchObject({ refreshes: before.refreshes, nudges: before.nudges, swaps: before.swaps })
})

test('changes below a file of the upper cost no refresh', async () => {
  const { overlay, daemon } = await start({ prepare: (o) => put(o.up('hidden'), 'upper') })
  touch(overlay.at('hidden'))
  const before = await costs(daemon, overlay)
  for (let index = 0; index < 100; index++) replace(overlay.low(1, 'hidden'), `${index}`)
  const after = await costs(daemon, overlay)
  expect(after).toMatchObject({ refreshes: before.refreshes, nudges: before.nudges, swaps: before.swaps })
})

test("the overlay's own writes cost no refresh", async () => {
  const { overlay, daemon } = await start({ prepare: (o) => put(o.low(1, 'copied up'), 'x') })
  const before = await costs(daemon, overlay)
  for (let index = 0; index < 100; index++) {
    put(overlay.at(`f${index}`), 'x')
    renameSync(overlay.at(`f${index}`), overlay.at(`g${index}`))
  }
  put(overlay.at('copied up'), 'changed')
  rmSync(overlay.at('copied up'))
  const after = await costs(daemon, overlay)
  expect(after).toMatchObject({ refreshes: before.refreshes, nudges: before.nudges, swaps: before.swaps })
})

test.each(['tmpfs', 'root'] as const)(
  'events elsewhere on a busy file system cost no refresh (%s)',
  async (lowerFs) => {
    const { overlay, daemon } = await start({ lowerFs, prepare: (o) => put(o.low(1, 'f'), 'old') })
    touch(overlay.at('f'), overlay.at('busy0'))
    const before = await costs(daemon, overlay)
    // Beside the lower, on its file system, with names that the overlay has cached.
    const elsewhere = join(overlay.low(1).toString(), '..', 'elsewhere')
    mkdirSync(elsewhere)
    for (let index = 0; index < 2_000; index++) {
      writeFileSync(join(elsewhere, `busy${index}`), '')
      renameSync(join(elsewhere, `busy${index}`), join(elsewhere, 'f'))
    }
    const after = await costs(daemon, overlay)
    expect(after).toEqual(before)
    replace(overlay.low(1, 'f'), 'new')
    const { wrong } = await eventually(() => holds(overlay.at('f'), 'new'), { withinMs: 1_000 })
    expect(wrong, 'and a change inside still shows').toBeNull()
  },
)
