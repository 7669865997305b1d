// SPDX-License-Identifier: MIT
import { spawnSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'
import { expect, test } from 'vitest'
import { native } from '../../../src/native.js'
import { Fixture, Kind, resources, scopesHere } from './fixture.js'

const project = fileURLToPath(new URL('../../..', import.meta.url))

test.each(scopesHere())('close leaves no descriptor, thread or mark, scope %s', async (scope) => {
  const before = resources()
  const f = new Fixture()
  await f.sh('mkdir -p layer/a/b second')
  await f.add(1, f.path('layer'), scope)
  await f.add(2, f.path('second'), scope)
  const during = resources()
  expect(during.threads).toBe(before.threads + 2)
  f.watcher.close()
  f.watcher.close()
  await expect(f.watcher.addLayer(3, await f.root(f.path('layer')), options(scope))).rejects.toMatchObject({
    code: 'ECANCELED',
  })
  const counters = f.watcher.counters()
  expect(counters.readerCpuNs).toBeGreaterThan(0)
  f.close()
  // The lane's thread ends by itself.
  while (resources().threads > before.threads) await new Promise((resolve) => setImmediate(resolve))
  expect(resources()).toEqual(before)
})

const options = (scope: string) => ({ scopes: [scope], modifyNames: [], maxDirectories: 1000 }) as never

test('a layer that is being armed when the watcher is closed is told so', async () => {
  const f = new Fixture()
  await f.sh('mkdir -p layer/{1..30}/{1..30}')
  const root = await f.root(f.path('layer'))
  const adding = f.watcher.addLayer(1, root, options('inotify'))
  f.watcher.close()
  await expect(adding).rejects.toMatchObject({ code: 'ECANCELED' })
  f.close()
})

test('removing a layer that is being armed settles both promises', async () => {
  const f = new Fixture()
  await f.sh('mkdir -p layer/{1..30}/{1..30}')
  const adding = f.watcher.addLayer(1, await f.root(f.path('layer')), options('inotify'))
  const removing = f.watcher.removeLayer(1)
  // On a machine that is busy elsewhere it may just have been armed.
  const [outcome] = await Promise.allSettled([adding, removing])
  if (outcome.status === 'rejected') expect(outcome.reason).toMatchObject({ code: 'ECANCELED' })
  await removing
  expect(f.watcher.layerState(1)).toBeNull()
  f.close()
})

test('an environment that ends without close leaves nothing behind', async () => {
  const f = new Fixture()
  await f.sh('mkdir -p layer/a')
  const source = (open: boolean) => `
    const { parentPort } = require('node:worker_threads')
    const native = require('node-gyp-build')(${JSON.stringify(project)})
    ;(async () => {
      if (${open}) {
        const lane = new native.Lane('worker')
        const root = await native.openTree(lane, ${JSON.stringify(f.path('layer'))}, { clone: false })
        globalThis.watcher = new native.Watcher(() => {})
        for (const [layer, scope] of ${JSON.stringify(scopesHere())}.entries()) {
          await watcher.addLayer(layer, root, { scopes: [scope], modifyNames: [], maxDirectories: 100 })
        }
        globalThis.inotify = new native.Inotify(() => {})
        inotify.addWatch(${JSON.stringify(f.path('layer'))}, 0xfff)
      }
      parentPort.postMessage('ready')
      setInterval(() => {}, 1e6)
    })()`
  const round = async (open: boolean) => {
    const worker = new Worker(source(open), { eval: true })
    await new Promise((resolve) => worker.once('message', resolve))
    const during = resources()
    await worker.terminate()
    return during
  }
  // What a worker by itself leaves (threads of V8, for instance) is there after the first.
  await round(false)
  const before = resources()
  const during = await round(true)
  expect(during.fds).toBeGreaterThan(before.fds + 3)
  while (resources().threads > before.threads) await new Promise((resolve) => setImmediate(resolve))
  expect(resources()).toEqual(before)
  f.close()
})

test('an open watcher keeps the process alive, a closed one does not', async () => {
  const f = new Fixture()
  const run = (code: string) =>
    spawnSync(
      process.execPath,
      ['-e', `const native = require('node-gyp-build')(${JSON.stringify(project)})\n${code}`],
      {
        timeout: 1500,
        cwd: project,
      },
    )
  expect(run('new native.Watcher(() => {})').signal).toBe('SIGTERM')
  expect(run('new native.Watcher(() => {}).close()').status).toBe(0)
  f.close()
})

test('what the callback throws is an uncaught exception, and the next batch comes all the same', async () => {
  const f = new Fixture()
  mkdirSync(f.path('layer'))
  const result = spawnSync(
    process.execPath,
    [
      '-e',
      `const native = require('node-gyp-build')(${JSON.stringify(project)})
      const { spawnSync } = require('node:child_process')
      let batches = 0
      const watcher = new native.Watcher(() => {
        if (++batches === 1) { setTimeout(() => spawnSync('touch', ['second'])); throw new Error('first') }
        console.log(batches)
        watcher.close()
      })
      process.on('uncaughtException', (error) => console.log(error.message))
      const lane = new native.Lane('l')
      native.openTree(lane, process.cwd(), { clone: false }).then(async (root) => {
        await watcher.addLayer(1, root, { scopes: ['inotify'], modifyNames: [], maxDirectories: 1 })
        lane.close()
        spawnSync('mkfifo', ['first'])
      })`,
    ],
    { cwd: f.path('layer'), env: { ...process.env, NODE_PATH: `${project}/node_modules` }, timeout: 10_000 },
  )
  expect(result.stdout.toString()).toBe('first\n2\n')
  f.close()
})

test.each(scopesHere().filter((scope) => scope !== 'inotify'))(
  'changes of this process are ignored, scope %s',
  async (scope) => {
    const f = new Fixture()
    await f.sh('mkdir -p layer')
    await f.add(1, f.path('layer'), scope)
    writeFileSync(f.path('layer/own'), '')
    mkdirSync(f.path('layer/dir'))
    await f.settle('layer')
    expect(f.kinds('', 'own')).toBe(0)
    expect(f.watcher.counters().eventsOwn).toBeGreaterThanOrEqual(2)
    // But the directory is watched.
    await f.sh('touch layer/dir/theirs')
    await f.seen('dir', 'theirs', Kind.create)
    f.close()
  },
)

test('with inotify, the names of a nudge are ignored', async () => {
  const f = new Fixture()
  await f.sh('mkdir -p layer')
  await f.add(1, f.path('layer'), 'inotify')
  await f.sh('touch layer/.lowerwatch-nudge.1.2; rm layer/.lowerwatch-nudge.1.2')
  await f.settle('layer')
  expect(f.list()).toEqual([])
  expect(f.watcher.counters().eventsOwn).toBeGreaterThanOrEqual(2)
  f.close()
})

test('a batch says when its first event was read', async () => {
  const f = new Fixture()
  await f.sh('mkdir -p layer')
  await f.add(1, f.path('layer'), 'inotify')
  const before = process.hrtime.bigint()
  await f.settle('layer')
  expect(f.batches[0]!.readAtNs).toBeGreaterThan(before)
  expect(f.batches[0]!.readAtNs).toBeLessThan(process.hrtime.bigint())
  f.close()
})

test('wrong arguments are a TypeError', () => {
  const watcher = new native.Watcher(() => {})
  expect(() => watcher.addLayer(1, {} as never, options('inotify'))).toThrow(TypeError)
  expect(() => new native.Watcher(undefined as never)).toThrow(TypeError)
  watcher.close()
})
