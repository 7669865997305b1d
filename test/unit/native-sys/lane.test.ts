// SPDX-License-Identifier: MIT
import { execFileSync, spawnSync } from 'node:child_process'
import { closeSync, constants, mkdtempSync, openSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { afterAll, describe, expect, it } from 'vitest'
import { native } from '../../../src/native.js'

const base = mkdtempSync(join(tmpdir(), 'lowerwatch-lane-'))
afterAll(() => rmSync(base, { recursive: true }))

const threads = () => readdirSync('/proc/self/task').length
const load = `const native = require('node-gyp-build')(${JSON.stringify(process.cwd())});`

describe('lanes', () => {
  it('do their calls in order, and two lanes at the same time', async () => {
    const hung = new native.Lane('hung')
    const free = new native.Lane('free')
    const root = await native.openTree(free, base, { clone: false })
    const fifo = join(base, 'fifo')
    execFileSync('mkfifo', [fifo])
    // Opening a pipe waits for its other end, as a dead server does.
    const order: string[] = []
    const opened = native.openBeneath(hung, root, 'fifo', constants.O_RDONLY).then((handle) => {
      order.push('fifo')
      handle.close()
    })
    const queued = native.statAt(hung, root, '').then(() => order.push('behind'))
    await native.statAt(free, root, '').then(() => order.push('free'))
    const other = openSync(fifo, 'w')
    await Promise.all([opened, queued])
    closeSync(other)
    expect(order).toEqual(['free', 'fifo', 'behind'])
    hung.close()
    free.close()
    root.close()
  })

  it('reject what waits when they are closed, and what comes later', async () => {
    const lane = new native.Lane('closing')
    const root = await native.openTree(lane, base, { clone: false })
    execFileSync('mkfifo', [join(base, 'fifo2')])
    const running = native.openBeneath(lane, root, 'fifo2', constants.O_RDONLY)
    const waiting = native.statAt(lane, root, '')
    // The first call must be running, else closing would take it back too.
    const writer = openSync(join(base, 'fifo2'), constants.O_RDWR)
    const state = await Promise.race([
      running.then(() => 'done'),
      new Promise((resolve) => setImmediate(() => resolve('on its way'))),
    ])
    lane.close()
    await expect(native.statAt(lane, root, '')).rejects.toMatchObject({ code: 'ECANCELED', syscall: 'lane' })
    const settled = await Promise.allSettled([running, waiting])
    if (state === 'on its way') expect(settled.map((s) => s.status)).toContain('rejected')
    for (const s of settled) if (s.status === 'fulfilled' && s.value && 'close' in s.value) s.value.close()
    closeSync(writer)
    root.close()
    lane.close()
  })

  it('keep a process alive while they work, and not when idle', () => {
    const script = `${load}
      const lane = new native.Lane('x'); new native.MountWatch(() => {}); new native.MountWatch(() => {}, { poll: true })
      native.openTree(lane, '/', { clone: false }).then((root) => native.readDirectory(lane, root, '')).then(() => console.log('done'))`
    const { stdout, status } = spawnSync(process.execPath, ['-e', script], {
      encoding: 'utf8',
      timeout: 20_000,
    })
    expect({ stdout, status }).toEqual({ stdout: 'done\n', status: 0 })
  })

  it('are not collected while a call is on its way', () => {
    const script = `${load}
      const call = () => native.openTree(new native.Lane('x'), '/', { clone: false })
      const calls = []
      for (let i = 0; i < 50; i++) { calls.push(call()); gc() }
      Promise.all(calls).then((handles) => console.log(handles.length))`
    const { stdout, status } = spawnSync(process.execPath, ['--expose-gc', '-e', script], {
      encoding: 'utf8',
      timeout: 20_000,
    })
    expect({ stdout, status }).toEqual({ stdout: '50\n', status: 0 })
  })

  it('leave no thread and no descriptor when a worker ends in the middle', async () => {
    const body = `${load}
      const { parentPort } = require('node:worker_threads')
      const lanes = [1, 2, 3].map((i) => new native.Lane('worker' + i))
      new native.MountWatch(() => {}); new native.MountWatch(() => {}, { poll: true })
      const go = () => lanes.forEach((lane) => { for (let i = 0; i < 20; i++) native.listMounts(lane).then(i === 19 ? go : () => {}) })
      native.openTree(lanes[0], '/', { clone: false }).then((root) => { globalThis.root = root; go(); parentPort.postMessage('busy') })`
    const round = async () => {
      const worker = new Worker(body, { eval: true })
      await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject))
      await worker.terminate()
    }
    await round()
    const before = { threads: threads(), descriptors: readdirSync('/proc/self/fd').length }
    for (let i = 0; i < 10; i++) await round()
    expect({ threads: threads(), descriptors: readdirSync('/proc/self/fd').length }).toEqual(before)
  })
})
