// SPDX-License-Identifier: MIT
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { createConnection, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, expect, it } from 'vitest'
import { askDaemon } from '../../../src/daemon/client.js'
import { lockOverlay, takeLock } from '../../../src/daemon/lock.js'
import { runtimeDirectory } from '../../../src/daemon/runtime.js'
import { type ControlRequest, ControlSocket } from '../../../src/daemon/socket.js'
import { LowerwatchError } from '../../../src/errors.js'

const base = mkdtempSync(join(tmpdir(), 'lowerwatch-socket-'))
chmodSync(base, 0o755)
const path = join(base, 'run', 'control.sock')
mkdirSync(join(base, 'run'), { mode: 0o700 })
process.env.RUNTIME_DIRECTORY = join(base, 'own')
const open: { close(): unknown }[] = []
afterEach(async () => {
  for (const one of open.splice(0)) await one.close()
})
afterAll(() => rmSync(base, { recursive: true, force: true }))

async function listen(handle: (request: ControlRequest) => Promise<unknown> = async (request) => request) {
  const socket = await ControlSocket.listen(path, handle)
  open.push(socket)
  return socket
}

async function connect(): Promise<Socket> {
  const socket = createConnection(path)
  open.push({ close: () => socket.destroy() })
  await once(socket, 'connect')
  return socket
}

async function firstLine(socket: Socket): Promise<unknown> {
  let text = ''
  for await (const chunk of socket) {
    text += chunk
    if (text.includes('\n')) break
  }
  return JSON.parse(text)
}

it('is private to its user, and gone afterwards', async () => {
  const umask = process.umask()
  const socket = await listen()
  expect(statSync(path).mode & 0o777).toBe(0o600)
  expect(process.umask()).toBe(umask)
  await socket.close()
  expect(existsSync(path)).toBe(false)
})

it('makes the directory that it is in, private too', async () => {
  const deep = join(base, 'a', 'b', 'control.sock')
  const socket = await ControlSocket.listen(deep, async () => 0)
  expect(statSync(join(base, 'a', 'b')).mode & 0o777).toBe(0o700)
  await socket.close()
})

it('answers requests, several on one connection, in order', async () => {
  await listen(async ({ request }) => request.toUpperCase())
  expect(await askDaemon(path, { request: 'a' })).toBe('A')
  const socket = await connect()
  socket.write('{"request":"x"}\n{"request":"y"}\n')
  let text = ''
  socket.on('data', (chunk) => {
    text += chunk
  })
  await expect.poll(() => text).toBe('{"ok":true,"result":"X"}\n{"ok":true,"result":"Y"}\n')
})

it('reports what went wrong to who asked, and goes on', async () => {
  await listen(async ({ request }) => {
    if (request === 'known') throw new LowerwatchError('NOT_OVERLAY', 'no', { hint: 'do this' })
    if (request === 'unknown') throw new TypeError('oh')
    return 1
  })
  await expect(askDaemon(path, { request: 'known' })).rejects.toMatchObject({
    code: 'NOT_OVERLAY',
    line: 'no: do this',
  })
  await expect(askDaemon(path, { request: 'unknown' })).rejects.toMatchObject({ code: 'SYSCALL', line: 'oh' })
  expect(await askDaemon(path, { request: 'fine' })).toBe(1)
})

it.each(['no json', '[]', 'null', '{"a":1}', '"status"'])('refuses %s', async (line) => {
  await listen()
  const socket = await connect()
  socket.write(`${line}\n`)
  expect(await firstLine(socket)).toMatchObject({ ok: false, error: { code: 'USAGE' } })
})

it('refuses a request that does not end', async () => {
  await listen()
  const socket = await connect()
  socket.write('x'.repeat(70_000))
  expect(await firstLine(socket)).toMatchObject({
    ok: false,
    error: { message: 'a request has at most 65536 bytes' },
  })
})

it('a client that does not read its answer holds up nobody', async () => {
  await listen(async ({ request }) => (request === 'big' ? 'x'.repeat(10_000_000) : 'small'))
  const slow = await connect()
  slow.pause()
  slow.write('{"request":"big"}\n'.repeat(100))
  expect(await askDaemon(path, { request: 'other' })).toBe('small')
  slow.destroy()
  expect(await askDaemon(path, { request: 'other' })).toBe('small')
})

it('a second daemon is refused, and told who the first is', async () => {
  await listen()
  await expect(listen()).rejects.toMatchObject({
    code: 'SOCKET_IN_USE',
    line: `another lowerwatch listens on ${path} (pid ${process.pid}): stop it, or give another --socket`,
  })
  expect(await askDaemon(path, { request: 'still' })).toEqual({ request: 'still' })
})

it('what a killed daemon left is taken over', async () => {
  const program = `require('net').createServer().listen(${JSON.stringify(path)}, () => console.log('up'))`
  const child = spawn(process.execPath, ['-e', program], { stdio: ['ignore', 'pipe', 'inherit'] })
  open.push({ close: () => child.kill('SIGKILL') })
  await once(child.stdout, 'data')
  // Alive, but without our lock: it is not ours to remove.
  await expect(listen()).rejects.toMatchObject({ code: 'SOCKET_IN_USE' })
  child.kill('SIGKILL')
  await once(child, 'exit')
  expect(existsSync(path)).toBe(true)
  await listen()
  expect(await askDaemon(path, { request: 'a' })).toEqual({ request: 'a' })
})

it('a file that is no socket stays', async () => {
  writeFileSync(path, 'mine')
  await expect(listen()).rejects.toMatchObject({ code: 'SOCKET_IN_USE', message: `${path} is not a socket` })
  expect(statSync(path).size).toBe(4)
  rmSync(path)
})

it('a path that is too long, and a directory that cannot be made', async () => {
  await expect(ControlSocket.listen(`/tmp/${'x'.repeat(110)}`, async () => 0)).rejects.toMatchObject({
    code: 'USAGE',
  })
  await expect(ControlSocket.listen('/proc/none/a.sock', async () => 0)).rejects.toMatchObject({
    code: 'NOT_PERMITTED',
    message: 'cannot make the control socket /proc/none/a.sock: ENOENT',
  })
})

it('another user is not answered, even when the file lets him in', async (context) => {
  if (process.getuid?.() !== 0) context.skip('not root')
  await listen()
  chmodSync(path, 0o666)
  chmodSync(join(base, 'run'), 0o755)
  const program = `
    const socket = require('net').connect(${JSON.stringify(path)}, () => socket.write('{"request":"a"}\\n'))
    socket.on('data', (data) => console.log('answered ' + data)).on('error', (e) => console.log(e.code))
    socket.on('close', () => console.log('closed'))`
  const ask = async (uid: number) => {
    const child = spawn(process.execPath, ['-e', program], {
      uid,
      gid: uid,
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const chunks = await child.stdout.take(1).toArray()
    child.kill()
    return String(chunks[0]).trim()
  }
  expect(await ask(65534)).toMatch(/^(closed|EPIPE|ECONNRESET)/)
  expect(await ask(0)).toBe('answered {"ok":true,"result":{"request":"a"}}')
})

it('nobody answers', async () => {
  await expect(askDaemon(path, { request: 'a' })).rejects.toMatchObject({
    code: 'DAEMON_UNREACHABLE',
    message: `no daemon answers on ${path}: there is no such socket`,
  })
})

it('an overlay is served by one daemon', async () => {
  const device = '0:99'
  const lock = await lockOverlay(device, '/merged')
  await expect(lockOverlay(device, '/merged')).rejects.toMatchObject({
    code: 'ALREADY_RUNNING',
    message: `another lowerwatch serves the overlay at /merged (pid ${process.pid})`,
  })
  lock.close()
  ;(await lockOverlay(device, '/merged')).close()
  expect(readdirSync(runtimeDirectory())).toEqual([])
})

it('of many that want a lock one has it at a time', async () => {
  const file = join(base, 'many.lock')
  let holders = 0
  let taken = 0
  const worker = async () => {
    while (taken < 100) {
      const lock = await takeLock(file)
      if (lock === null) continue
      expect(++holders).toBe(1)
      taken++
      await new Promise(setImmediate)
      holders--
      lock.close()
    }
  }
  await Promise.all(Array.from({ length: 5 }, worker))
  expect(existsSync(file)).toBe(false)
})

it('there is no place for locks and socket but a private one', () => {
  const shared = join(base, 'shared')
  mkdirSync(shared)
  chmodSync(shared, 0o777)
  process.env.RUNTIME_DIRECTORY = shared
  expect(runtimeDirectory).toThrow(
    `no directory for the control socket, ${shared} is not private to this user`,
  )
  process.env.RUNTIME_DIRECTORY = join(base, 'own')
  expect(runtimeDirectory()).toBe(join(base, 'own'))
  expect(statSync(join(base, 'own')).mode & 0o777).toBe(0o700)
})
