// SPDX-License-Identifier: MIT

/** What processes do between a change and the daemon's look at it: it is stopped meanwhile, so the order is certain. */
import { chmodSync, readFileSync, renameSync } from 'node:fs'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { put } from './cases/looks.js'
import { Actor, unprivilegedReader } from './fixture/actor.js'
import { Cleanup } from './fixture/cleanup.js'
import { type Daemon, pathOf, startDaemon } from './fixture/daemon.js'
import { eventually } from './fixture/eventually.js'
import { makeOverlay, type Overlay } from './fixture/overlay.js'

const withinMs = 5_000
vi.setConfig({ testTimeout: 30_000 })

let cleanup: Cleanup
beforeEach(() => {
  cleanup = new Cleanup()
})
afterEach(() => cleanup.run(), 30_000)

function actor(): Actor {
  const made = new Actor()
  cleanup.defer('process', () => made.stop())
  return made
}

/** Stopped when this resolves: the kernel says so. */
async function whileStopped(daemon: Daemon, work: () => Promise<void>): Promise<void> {
  daemon.process.kill('SIGSTOP')
  const resume = () => daemon.process.kill('SIGCONT')
  try {
    const state = () => /^State:\t(.)/m.exec(readFileSync(`/proc/${daemon.pid}/status`, 'latin1'))?.[1]
    const { wrong } = await eventually(() => (state() === 'T' ? null : `state ${state()}`), { withinMs })
    expect(wrong).toBeNull()
    await work()
  } finally {
    resume()
  }
}

async function expectNamed(daemon: Daemon, overlay: Overlay, expected: string[]): Promise<void> {
  const look = async () => {
    const { unresolved } = await daemon.overlay(overlay.mountPoint)
    const named = unresolved.map(({ path }) => pathOf(path)).join()
    return named === expected.join() ? null : `names '${named}'`
  }
  expect((await eventually(look, { withinMs })).wrong, `names ${expected}`).toBeNull()
}

test('a held file with a mode of before is named at its new name, when that was opened before it was let go', async ({
  skip,
}) => {
  const reader = await unprivilegedReader()
  if (reader === null) return skip('this user namespace has one user only')
  cleanup.defer('reader', () => reader.stop())
  const prepare = (o: Overlay) => {
    put(o.low(1, 'f'), 'content')
    chmodSync(o.low(1, 'f'), 0o644)
  }
  const overlay = await makeOverlay({ lowers: 1, upper: true, lowerFs: 'tmpfs', prepare })
  cleanup.defer('overlay', () => overlay.unmount())
  const daemon = await startDaemon([overlay.mountPoint])
  cleanup.defer('daemon', () => daemon.stop())
  const [first, second] = [actor(), actor()]
  const held = await first.open(overlay.at('f'))
  chmodSync(overlay.low(1, 'f'), 0o600)
  await expectNamed(daemon, overlay, ['f'])
  await daemon.settle()
  let heldAtNewName = -1
  await whileStopped(daemon, async () => {
    renameSync(overlay.low(1, 'f'), overlay.low(1, 'g'))
    heldAtNewName = await second.open(overlay.at('g'))
    await first.close(held)
  })
  await daemon.settle()
  expect(await reader.read(overlay.at('g')), 'the mode of before').toBe('content')
  await expectNamed(daemon, overlay, ['g'])
  await second.close(heldAtNewName)
  const reads = async () => {
    const seen = await reader.read(overlay.at('g')).catch(({ code }) => code)
    return seen === 'EACCES' ? null : `reads as ${seen}`
  }
  expect((await eventually(reads, { withinMs })).wrong).toBeNull()
  await expectNamed(daemon, overlay, [])
})
