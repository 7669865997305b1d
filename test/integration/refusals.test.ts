// SPDX-License-Identifier: MIT

/** Bad input: one line that says what is missing and what to do, exit status 2, nothing changed on the system. */
import { chownSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { reachableCheckout } from './fixture/checkout.js'
import { Cleanup } from './fixture/cleanup.js'
import { type Daemon, lowerwatch, type Ran, runProgram, startDaemon } from './fixture/daemon.js'
import { daemonProgram, inUserNamespace, projectRoot, unprivileged } from './fixture/environment.js'
import { temporaryDirectory } from './fixture/lowers.js'
import { makeOverlay, type Overlay } from './fixture/overlay.js'

vi.setConfig({ testTimeout: 30_000 })

let cleanup: Cleanup
let directory: string

beforeEach(() => {
  cleanup = new Cleanup()
  directory = temporaryDirectory('refusals')
  cleanup.defer('directory', () => rmSync(directory, { recursive: true }))
})
afterEach(() => cleanup.run(), 30_000)

async function overlayFor(): Promise<Overlay> {
  const overlay = await makeOverlay({ lowers: 1, upper: true, lowerFs: 'tmpfs' })
  cleanup.defer('overlay', () => overlay.unmount())
  return overlay
}

async function daemonFor(overlay: Overlay): Promise<Daemon> {
  const daemon = await startDaemon([overlay.mountPoint])
  cleanup.defer('daemon', () => daemon.stop())
  return daemon
}

const table = () => readFileSync('/proc/self/mountinfo', 'latin1')

/** Runs it and expects the refusal; returns its one line. */
async function refused(start: () => Promise<Ran>, says: RegExp): Promise<string> {
  const before = table()
  const { code, stdout, stderr } = await start()
  expect(code, stderr).toBe(2)
  const lines = (stderr + stdout).trimEnd().split('\n')
  expect(lines, 'one line').toHaveLength(1)
  expect(lines[0]).toMatch(says)
  expect(table(), 'the mount table').toBe(before)
  return lines[0] ?? ''
}

const socket = () => ['--socket', join(directory, 'control.sock')]

test('no overlay at that path', async () => {
  await refused(() => lowerwatch('run', directory, ...socket()), new RegExp(directory))
})

test('a path that vanished', async () => {
  await refused(() => lowerwatch('run', join(directory, 'gone'), ...socket()), /gone/)
})

test('neither a mount point nor --all', async () => {
  await refused(() => lowerwatch('run', ...socket()), /--all/)
})

test('a second daemon on the same mount names the first', async () => {
  const overlay = await overlayFor()
  const first = await daemonFor(overlay)
  await refused(() => lowerwatch('run', overlay.mountPoint, ...socket()), new RegExp(`pid ${first.pid}`))
  expect((await first.status()).overlays, 'the first goes on').toHaveLength(1)
})

test('a socket in use', async () => {
  const [one, other] = [await overlayFor(), await overlayFor()]
  const first = await daemonFor(one)
  await refused(() => lowerwatch('run', other.mountPoint, '--socket', first.socket), new RegExp(first.socket))
  expect((await first.status()).overlays, 'the first goes on').toHaveLength(1)
})

test('a socket path that is no socket stays what it is', async () => {
  const overlay = await overlayFor()
  const path = join(directory, 'precious')
  writeFileSync(path, 'precious')
  await refused(() => lowerwatch('run', overlay.mountPoint, '--socket', path), /precious/)
  expect(readFileSync(path, 'utf8')).toBe('precious')
})

test('a configuration with an unknown key says where, and the nearest right one', async () => {
  const overlay = await overlayFor()
  const file = join(directory, 'config.toml')
  writeFileSync(file, 'all = false\n\non-vanih = "keep"\n')
  const start = () => lowerwatch('run', overlay.mountPoint, '--config', file, ...socket())
  const line = await refused(start, /on-vanish/)
  expect(line).toContain(`${file}:3`)
})

test('a configuration that is not there', async () => {
  const overlay = await overlayFor()
  const missing = join(directory, 'missing.toml')
  await refused(
    () => lowerwatch('run', overlay.mountPoint, '--config', missing, ...socket()),
    /missing\.toml/,
  )
})

test('an unknown option', async () => {
  await refused(() => lowerwatch('run', '--evrything'), /evrything/)
})

test('status without a daemon', async () => {
  await refused(() => lowerwatch('status', ...socket()), /control\.sock/)
})

test('nobody in particular is not permitted', async ({ skip }) => {
  skip(inUserNamespace, 'there is no second user in this user namespace')
  const overlay = await overlayFor()
  const own = join(directory, 'nobody')
  mkdirSync(own)
  chownSync(own, unprivileged.uid, unprivileged.gid)
  const user = ['--reuid', `${unprivileged.uid}`, '--regid', `${unprivileged.gid}`, '--clear-groups']
  const checkout = reachableCheckout()
  cleanup.defer('checkout', checkout.release)
  const program = join(checkout.path, relative(projectRoot, daemonProgram))
  const environment = ['env', `XDG_RUNTIME_DIR=${own}`, process.execPath, program]
  const given = ['run', overlay.mountPoint, '--socket', join(own, 'control.sock')]
  await refused(() => runProgram('setpriv', ...user, ...environment, ...given), /permitted|CAP_SYS_ADMIN/)
})
