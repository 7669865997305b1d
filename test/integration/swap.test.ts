// SPDX-License-Identifier: MIT

/** Overlays without an upper, of which a fresh one takes the place when a holder keeps something stale. */
import { closeSync, mkdirSync, openSync, renameSync, rmSync } from 'node:fs'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { absent, holds, put, touch } from './cases/looks.js'
import { Cleanup } from './fixture/cleanup.js'
import { type Daemon, startDaemon } from './fixture/daemon.js'
import { eventually } from './fixture/eventually.js'
import { makeOverlay, type Overlay } from './fixture/overlay.js'

vi.setConfig({ testTimeout: 60_000 })

let cleanup: Cleanup
let overlay: Overlay
let daemon: Daemon

beforeEach(() => {
  cleanup = new Cleanup()
})
afterEach(() => cleanup.run(), 30_000)

async function start(prepare: (overlay: Overlay) => void): Promise<void> {
  overlay = await makeOverlay({ lowers: 2, upper: false, lowerFs: 'tmpfs', prepare })
  cleanup.defer('overlay', () => overlay.unmount())
  daemon = await startDaemon([], { arguments: ['--all'] })
  cleanup.defer('daemon', () => daemon.stop())
  await daemon.settle()
}

function hold(path: string): number {
  const fd = openSync(overlay.at(path), 'r')
  cleanup.defer('holder', () => closeSync(fd))
  return fd
}

test('each overlay that a swap puts there is watched in its turn', async () => {
  const rounds = Array.from({ length: 15 }, (_, round) => round)
  await start((o) => {
    for (const round of rounds) mkdirSync(o.low(1, `d${round}`))
  })
  for (const round of rounds) {
    hold(`d${round}`)
    rmSync(overlay.low(1, `d${round}`), { recursive: true })
    const removed = await eventually(() => absent(overlay.at(`d${round}`)), { withinMs: 2_000 })
    expect(removed.wrong, `d${round} is removed`).toBeNull()
    touch(overlay.at(`f${round}`))
    put(overlay.low(1, `f${round}`), 'new')
    const added = await eventually(() => holds(overlay.at(`f${round}`), 'new'), { withinMs: 2_000 })
    expect(added.wrong, `f${round} shows`).toBeNull()
  }
  await daemon.settle()
  const { overlays } = await daemon.status()
  expect(overlays).toHaveLength(1)
  const said = (what: string) => daemon.log.filter((line) => line.includes(what))
  expect(said('cannot watch')).toEqual([])
  expect(said('"watching"'), 'one swap each').toHaveLength(1 + rounds.length)
})

test('what was put in the place of a layer is not mounted', async () => {
  await start((o) => mkdirSync(o.low(1, 'd')))
  hold('d')
  const layer = overlay.low(1).toString('latin1')
  renameSync(layer, `${layer}.moved`)
  cleanup.defer('layer', () => {
    rmSync(layer, { recursive: true })
    renameSync(`${layer}.moved`, layer)
  })
  mkdirSync(layer)
  put(Buffer.from(`${layer}/foreign`, 'latin1'), 'foreign')
  rmSync(`${layer}.moved/d`, { recursive: true })
  const why = 'rung swap is not available: a layer is no longer at its path'
  const said = await eventually(() => (daemon.log.some((line) => line.includes(why)) ? null : 'not said'), {
    withinMs: 2_000,
  })
  expect(said.wrong, daemon.log.join('\n')).toBeNull()
  expect(absent(overlay.at('foreign'))).toBeNull()
})
