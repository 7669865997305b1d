// SPDX-License-Identifier: MIT

/** The daemon's beginning, its end, and mounts and layers that come and go under it. */
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { holds, is, lists, put, replace, touch } from './cases/looks.js'
import { Cleanup } from './fixture/cleanup.js'
import { type Daemon, type DaemonOptions, lowerwatch, pathOf, startDaemon } from './fixture/daemon.js'
import { mountLines, run } from './fixture/environment.js'
import { eventually, type Verdict } from './fixture/eventually.js'
import { temporaryDirectory } from './fixture/lowers.js'
import { makeOverlay, type Overlay, type OverlayRequest } from './fixture/overlay.js'

const withinMs = 2_000
vi.setConfig({ testTimeout: 30_000 })

let cleanup: Cleanup

beforeEach(() => {
  cleanup = new Cleanup()
})
afterEach(() => cleanup.run(), 30_000)

async function overlayFor(request: Partial<OverlayRequest> = {}): Promise<Overlay> {
  const overlay = await makeOverlay({ lowers: 1, upper: true, lowerFs: 'tmpfs', ...request })
  cleanup.defer('overlay', () => overlay.unmount())
  return overlay
}

async function daemonFor(mountPoints: string[], options: DaemonOptions = {}): Promise<Daemon> {
  const daemon = await startDaemon(mountPoints, options)
  cleanup.defer('daemon', async () => {
    if (daemon.process.exitCode === null && daemon.process.signalCode === null) await daemon.stop()
  })
  return daemon
}

async function soon(look: () => Verdict | Promise<Verdict>, what: string): Promise<void> {
  const { wrong } = await eventually(look, { withinMs })
  expect(wrong, what).toBeNull()
}

/** One change of each overlay shows. */
async function expectServed(overlay: Overlay, name = 'served'): Promise<void> {
  touch(overlay.at(name))
  put(overlay.low(1, name), 'served')
  await soon(() => holds(overlay.at(name), 'served'), `${overlay.mountPoint} is served`)
}

const tableNow = () => readFileSync('/proc/self/mountinfo', 'latin1')

async function known(daemon: Daemon, mountPoint: string): Promise<boolean> {
  const { overlays } = await daemon.status()
  return overlays.some(({ mountPoints }) => mountPoints.some((path) => pathOf(path) === mountPoint))
}

test('--all takes mounts that appear and lets go of those that go', async () => {
  const first = await overlayFor()
  const daemon = await daemonFor([], { arguments: ['--all'] })
  await expectServed(first)
  const second = await makeOverlay({ lowers: 1, upper: true, lowerFs: 'tmpfs' })
  try {
    await soon(async () => ((await known(daemon, second.mountPoint)) ? null : 'not known'), 'taken')
    await expectServed(second)
  } finally {
    // Fails when the daemon keeps the mount busy.
    await second.unmount()
  }
  await soon(async () => ((await known(daemon, second.mountPoint)) ? 'still known' : null), 'let go')
  await expectServed(first, 'still served')
})

test('an overlay that another mount hides is taken when it shows again', async () => {
  const overlay = await overlayFor()
  run('mount', '-t', 'tmpfs', 'hides', overlay.mountPoint)
  const daemon = await daemonFor([], { arguments: ['--all'] })
  const refusals = () => daemon.log.filter((line) => line.includes('cannot watch'))
  await soon(() => (refusals().length === 1 ? null : 'not said'), 'refused')
  // The mount table changes: tried again, and not said again.
  const other = await overlayFor()
  await expectServed(other)
  expect(refusals()).toHaveLength(1)
  run('umount', overlay.mountPoint)
  await soon(async () => ((await known(daemon, overlay.mountPoint)) ? null : 'not known'), 'taken')
  await expectServed(overlay)
})

test('--all is ready with no overlay at all', async () => {
  const daemon = await daemonFor([], { arguments: ['--all'] })
  const overlay = await overlayFor()
  await soon(async () => ((await known(daemon, overlay.mountPoint)) ? null : 'not known'), 'taken')
  await expectServed(overlay)
})

test('an overlay unmounted and mounted again at the same place is served again', async () => {
  const overlay = await overlayFor()
  const daemon = await daemonFor([overlay.mountPoint])
  await expectServed(overlay)
  run('umount', overlay.mountPoint)
  await soon(async () => ((await known(daemon, overlay.mountPoint)) ? 'still known' : null), 'let go')
  const layers = `lowerdir=${overlay.lowers[0]},upperdir=${overlay.upper},workdir=${overlay.mountPoint}.work`
  run('mount', '-t', 'overlay', 'again', '-o', layers, overlay.mountPoint)
  await soon(async () => ((await known(daemon, overlay.mountPoint)) ? null : 'not known'), 'taken again')
  await expectServed(overlay, 'again')
})

test('what changed before the daemon came is made coherent when it is ready', async () => {
  const overlay = await overlayFor({ prepare: (o) => put(o.low(1, 'f'), 'old') })
  touch(overlay.at('f'), overlay.at('new'))
  replace(overlay.low(1, 'f'), 'new')
  put(overlay.low(1, 'new'), 'new')
  expect(holds(overlay.at('f'), 'new'), 'stale before').not.toBeNull()
  await daemonFor([overlay.mountPoint])
  await soon(() => holds(overlay.at('f'), 'new') ?? holds(overlay.at('new'), 'new'), 'coherent')
})

test('the lower moved elsewhere on its file system is still watched', async () => {
  const overlay = await overlayFor({ prepare: (o) => mkdirSync(o.low(1, 'd')) })
  await daemonFor([overlay.mountPoint])
  await expectServed(overlay)
  const [lower = ''] = overlay.lowers
  renameSync(lower, `${lower}.moved`)
  touch(overlay.at('d'), overlay.at('d/after'), overlay.at('after'))
  writeFileSync(`${lower}.moved/after`, 'after')
  writeFileSync(`${lower}.moved/d/after`, 'after')
  await soon(() => holds(overlay.at('after'), 'after') ?? holds(overlay.at('d/after'), 'after'), 'served')
})

test('the lower removed is reported, and the daemon goes on', async () => {
  const other = await overlayFor()
  const overlay = await overlayFor({ prepare: (o) => put(o.up('mine'), 'mine') })
  const daemon = await daemonFor([overlay.mountPoint, other.mountPoint])
  rmSync(overlay.low(1), { recursive: true })
  const reported = () =>
    daemon.log.some((line) => line.includes('removed') && JSON.parse(line).level === 'warn')
      ? null
      : 'no warning'
  await soon(reported, 'reported')
  await expectServed(other)
  expect(await known(daemon, overlay.mountPoint)).toBe(true)
  expect(holds(overlay.at('mine'), 'mine'), "the upper's file").toBeNull()
})

test('the file system of a lower unmounted is no crash, and is not kept busy', async () => {
  const directory = temporaryDirectory('unmounted')
  cleanup.defer('directory', () => rmSync(directory, { recursive: true }))
  const at = (name: string) => join(directory, name)
  for (const name of ['lower', 'tmpfs', 'merged']) mkdirSync(at(name))
  run('mount', '-t', 'tmpfs', 'lower', at('lower'))
  run('mount', '-t', 'tmpfs', 'tmpfs', at('tmpfs'))
  cleanup.defer('tmpfs', () => void run('umount', at('tmpfs')))
  for (const name of ['upper', 'work']) mkdirSync(at(`tmpfs/${name}`))
  const layers = `lowerdir=${at('lower')},upperdir=${at('tmpfs/upper')},workdir=${at('tmpfs/work')}`
  run('mount', '-t', 'overlay', 'test', '-o', layers, at('merged'))
  cleanup.defer('overlay', () => void run('umount', at('merged')))
  writeFileSync(at('lower/f'), 'f')
  const other = await overlayFor()
  const daemon = await daemonFor([at('merged'), other.mountPoint])
  run('umount', at('lower'))
  await expectServed(other)
  expect(await known(daemon, at('merged'))).toBe(true)
  expect(holds(Buffer.from(at('merged/f')), 'f')).toBeNull()
})

test('SIGTERM leaves the mount table as it was', async () => {
  const overlays = [
    await overlayFor(),
    await overlayFor({ lowers: 2, upper: false }),
    await overlayFor({ nested: true }),
  ]
  const before = tableNow()
  const daemon = await daemonFor(overlays.flatMap(({ mountPoints }) => mountPoints))
  expect(tableNow(), 'while it runs').toBe(before)
  for (const overlay of overlays) await expectServed(overlay)
  await daemon.stop()
  expect(tableNow(), 'afterwards').toBe(before)
  for (const overlay of overlays) expect(is(overlay.at('served'), 'file')).toBeNull()
})

test('SIGTERM at the moment of ready ends it as at any other', async () => {
  const overlay = await overlayFor()
  for (let time = 0; time < 10; time++) {
    const daemon = await daemonFor([overlay.mountPoint])
    await daemon.stop()
  }
})

test('kill -9 leaves the mount usable and the next start clean', async () => {
  const overlay = await overlayFor({ prepare: (o) => put(o.low(1, 'f'), 'f') })
  const before = tableNow()
  const killed = await daemonFor([overlay.mountPoint])
  await expectServed(overlay, 'first')
  await killed.kill()
  expect(tableNow()).toBe(before)
  expect(holds(overlay.at('f'), 'f')).toBeNull()
  put(overlay.at('written'), 'written')
  const next = await daemonFor([overlay.mountPoint])
  await expectServed(overlay, 'second')
  await next.stop()
  expect(lists(overlay.at(), ['f', 'first', 'second', 'written'])).toBeNull()
})

test('kill -9 in the middle of a burst leaves nothing of its own behind', async () => {
  const overlay = await overlayFor({ prepare: (o) => mkdirSync(o.up('d')) })
  const daemon = await daemonFor([overlay.mountPoint])
  for (let index = 0; index < 300; index++) {
    touch(overlay.at(`f${index}`))
    put(overlay.low(1, `f${index}`), 'x')
  }
  await daemon.kill()
  const expected = ['d', ...Array.from({ length: 300 }, (_, index) => `f${index}`)]
  const again = await daemonFor([overlay.mountPoint])
  await soon(() => lists(overlay.at(), expected), 'listing')
  for (const name of expected)
    await soon(() => (is(overlay.at(name), 'ENOENT') ? null : `${name} is missing`), name)
  await again.stop()
})

test('every overlay that goes away in one moment is let go', async () => {
  const overlays: Overlay[] = []
  for (let index = 0; index < 5; index++)
    overlays.push(await makeOverlay({ lowers: 1, upper: true, lowerFs: 'tmpfs' }))
  const daemon = await daemonFor(overlays.map(({ mountPoint }) => mountPoint))
  await Promise.all(overlays.map((overlay) => overlay.unmount()))
  await soon(async () => ((await daemon.status()).overlays.length === 0 ? null : 'still known'), 'all let go')
})

test('status, from the command line, is JSON with the layers and how they are watched', async () => {
  const overlay = await overlayFor()
  const daemon = await daemonFor([overlay.mountPoint])
  const { code, stdout } = await lowerwatch('status', '--json', '--socket', daemon.socket)
  expect(code).toBe(0)
  const [shown] = JSON.parse(stdout).overlays
  expect(shown.mountPoints).toEqual([overlay.mountPoint])
  const lower = shown.layers.find(({ role }: { role: string }) => role === 'lower')
  expect(lower).toMatchObject({ path: overlay.lowers[0], fsType: 'tmpfs' })
  expect(['filesystem', 'inode', 'inotify']).toContain(lower.scope)
})

test('two mounts of one overlay are one overlay', async () => {
  const overlay = await overlayFor({ prepare: (o) => mkdirSync(o.low(1, 'd')) })
  const second = `${overlay.mountPoint}.bind`
  mkdirSync(second)
  run('mount', '--bind', join(overlay.mountPoint, 'd'), second)
  cleanup.defer('bind mount', () => void run('umount', second))
  const daemon = await daemonFor([], { arguments: ['--all'] })
  touch(Buffer.from(join(second, 'new')))
  put(overlay.low(1, 'd/new'), 'new')
  await soon(() => holds(Buffer.from(join(second, 'new')), 'new'), 'through the bind mount')
  expect((await daemon.status()).overlays).toHaveLength(1)
  expect(mountLines().filter(({ mountPoint }) => mountPoint === second)).toHaveLength(1)
})

test('layers whose paths have every character that mount options escape', async () => {
  const directory = temporaryDirectory('escapes')
  cleanup.defer('directory', () => rmSync(directory, { recursive: true }))
  run('mount', '-t', 'tmpfs', 'tmpfs', directory)
  cleanup.defer('tmpfs', () => void run('umount', directory))
  const at = (name: string) => join(directory, name)
  const odd = 'a b,c:d\\e"f\tg#h=i\n'
  const escaped = (name: string) => at(name).replace(/[\\:,]/g, '\\$&')
  for (const name of [odd, `${odd} 2`, 'upper,1', 'work,1', 'merged\\ 1']) mkdirSync(at(name))
  const lowers = `${escaped(odd)}:${escaped(`${odd} 2`)}`
  const commas = (name: string) => at(name).replace(/,/g, '\\,')
  const layers = `lowerdir=${lowers},upperdir=${commas('upper,1')},workdir=${commas('work,1')}`
  run('mount', '-t', 'overlay', 'test', '-o', layers, at('merged\\ 1'))
  cleanup.defer('overlay', () => void run('umount', at('merged\\ 1')))
  await daemonFor([at('merged\\ 1')])
  for (const [index, name] of [odd, `${odd} 2`].entries()) {
    const seen = Buffer.from(at(`merged\\ 1/new${index}`))
    touch(seen)
    writeFileSync(at(`${name}/new${index}`), 'new')
    await soon(() => holds(seen, 'new'), JSON.stringify(name))
  }
})

test('SIGHUP takes the changed configuration; a wrong one is reported and changes nothing', async () => {
  const [one, two] = [await overlayFor(), await overlayFor()]
  const directory = temporaryDirectory('config')
  cleanup.defer('directory', () => rmSync(directory, { recursive: true }))
  const file = join(directory, 'config.toml')
  const write = (...overlays: Overlay[]) =>
    writeFileSync(file, `overlays = ${JSON.stringify(overlays.map(({ mountPoint }) => mountPoint))}\n`)
  write(one)
  const daemon = await daemonFor([], { arguments: ['--config', file] })
  await expectServed(one)
  expect(await known(daemon, two.mountPoint)).toBe(false)
  write(one, two)
  daemon.process.kill('SIGHUP')
  await soon(async () => ((await known(daemon, two.mountPoint)) ? null : 'not known'), 'taken')
  await expectServed(two)
  writeFileSync(file, 'overlais = []\n')
  daemon.process.kill('SIGHUP')
  await soon(() => (daemon.log.some((line) => line.includes(`${file}:1`)) ? null : 'not said'), 'reported')
  await expectServed(one, 'still')
  await expectServed(two, 'still')
})
