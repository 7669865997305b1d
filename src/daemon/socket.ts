// SPDX-License-Identifier: MIT
import { lstatSync, unlinkSync } from 'node:fs'
import { createServer, type Server, Socket } from 'node:net'
import { join } from 'node:path'
import { LowerwatchError } from '../errors.js'
import { native } from '../native.js'
import { type Lock, ownerOf, takeLock } from './lock.js'
import { makeSocketDirectory, runtimeDirectory } from './runtime.js'

/** One line of JSON on the control socket, and one line back. */
export interface ControlRequest {
  request: string
  [parameter: string]: unknown
}

export type ControlAnswer =
  | { ok: true; result: unknown }
  | { ok: false; error: { code: string; message: string; hint: string } }

/** Longest request. A longer one is an error, and its connection is closed. */
const maxRequestBytes = 64 * 1024
/** A client that sends no request for so long, or does not read its answer, is closed. */
const idleMs = 10_000
const maxConnections = 32
/** sun_path of unix(7), with the terminating zero. */
const maxPathBytes = 107

/** The control socket's path when none is given. Throws USAGE or NOT_PERMITTED when there is no place for it. */
export function defaultSocketPath(): string {
  return join(runtimeDirectory(), 'control.sock')
}

/** The listening end. Only root and the user of this process may ask. */
export class ControlSocket {
  private constructor(
    readonly path: string,
    private readonly server: Server,
    private readonly connections: Set<Socket>,
    private readonly lock: Lock,
  ) {}

  /**
   * Listens on `path`. What a killed daemon left there is taken over; rejects with SOCKET_IN_USE when a living one
   * has it, or when it is no socket.
   */
  static async listen(
    path: string,
    handle: (request: ControlRequest) => Promise<unknown>,
  ): Promise<ControlSocket> {
    if (Buffer.byteLength(path) > maxPathBytes) {
      throw new LowerwatchError('USAGE', `${path}: a socket path has at most ${maxPathBytes} bytes`)
    }
    const lock = await lockPath(path)
    try {
      await removeStale(path)
      const connections = new Set<Socket>()
      const server = createServer((socket) => serve(socket, connections, handle))
      server.maxConnections = maxConnections
      await bind(server, path)
      return new ControlSocket(path, server, connections, lock)
    } catch (error) {
      lock.close()
      throw error
    }
  }

  /** Removes the socket and closes every connection. */
  async close(): Promise<void> {
    for (const socket of this.connections) socket.destroy()
    await new Promise((resolve) => this.server.close(resolve))
    this.lock.close()
  }
}

/** Two daemons that start at once must not both find the socket stale. */
async function lockPath(path: string): Promise<Lock> {
  try {
    makeSocketDirectory(path)
    const lock = await takeLock(`${path}.lock`)
    if (lock !== null) return lock
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code
    throw new LowerwatchError('NOT_PERMITTED', `cannot make the control socket ${path}: ${code}`, { cause })
  }
  throw inUse(path, ownerOf(`${path}.lock`))
}

function inUse(path: string, owner: string): LowerwatchError {
  return new LowerwatchError('SOCKET_IN_USE', `another lowerwatch listens on ${path}${owner}`, {
    hint: 'stop it, or give another --socket',
  })
}

async function removeStale(path: string): Promise<void> {
  const stat = lstatSync(path, { throwIfNoEntry: false })
  if (stat === undefined) return
  if (!stat.isSocket()) {
    throw new LowerwatchError('SOCKET_IN_USE', `${path} is not a socket`, { hint: 'give another --socket' })
  }
  const code = await tryConnect(path)
  if (code !== 'ECONNREFUSED' && code !== 'ENOENT') throw inUse(path, '')
  if (code === 'ECONNREFUSED') unlinkSync(path)
}

function tryConnect(path: string): Promise<string> {
  return new Promise((resolve) => {
    const socket = new Socket()
    socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? 'unknown'))
    socket.once('connect', () => {
      socket.destroy()
      resolve('connected')
    })
    socket.connect(path)
  })
}

async function bind(server: Server, path: string): Promise<void> {
  // bind(2) makes the file, within this call and with the umask of this moment: nobody else can connect before it
  // is private.
  const umask = process.umask(0o177)
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen(path, resolve)
      process.umask(umask)
    })
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code
    throw new LowerwatchError('NOT_PERMITTED', `cannot make the control socket ${path}: ${code}`, { cause })
  } finally {
    process.umask(umask)
  }
}

function serve(
  socket: Socket,
  connections: Set<Socket>,
  handle: (request: ControlRequest) => Promise<unknown>,
): void {
  socket.on('error', () => socket.destroy())
  if (!isTrusted(socket)) {
    socket.destroy()
    return
  }
  connections.add(socket)
  socket.on('close', () => connections.delete(socket))
  // Runs while an answer waits to be read, too: such a client is closed, and holds up nobody else.
  socket.setTimeout(idleMs)
  socket.on('timeout', () => socket.destroy())
  let received = ''
  let turn = Promise.resolve()
  socket.setEncoding('utf8')
  socket.on('data', (chunk: string) => {
    const lines = (received + chunk).split('\n')
    received = lines.pop()!
    if (received.length > maxRequestBytes || lines.some((line) => line.length > maxRequestBytes)) {
      socket.pause()
      turn = turn.then(() => {
        socket.end(lineOf(failure('USAGE', `a request has at most ${maxRequestBytes} bytes`)))
      })
      return
    }
    // One request at a time, and no more read until it is answered: what a client can queue is one chunk.
    socket.pause()
    turn = turn.then(async () => {
      for (const line of lines) {
        if (line.trim() === '') continue
        // What is asked for may take long; the client is not to blame.
        socket.setTimeout(0)
        const result = await answer(line, handle)
        socket.setTimeout(idleMs)
        await write(socket, result)
      }
      socket.resume()
    })
  })
}

function isTrusted(socket: Socket): boolean {
  const fd = (socket as unknown as { _handle: { fd: number } | null })._handle?.fd ?? -1
  if (fd < 0) return false
  const { uid } = native.peerCredentials(fd)
  return uid === 0 || uid === process.getuid?.()
}

async function answer(
  line: string,
  handle: (request: ControlRequest) => Promise<unknown>,
): Promise<ControlAnswer> {
  let request: ControlRequest
  try {
    request = JSON.parse(line)
  } catch {
    return failure('USAGE', 'a request is one line of JSON')
  }
  if (typeof request !== 'object' || request === null || typeof request.request !== 'string') {
    return failure('USAGE', 'a request is an object with the key "request"')
  }
  try {
    return { ok: true, result: await handle(request) }
  } catch (error) {
    if (error instanceof LowerwatchError) return failure(error.code, error.message, error.hint)
    return failure('SYSCALL', error instanceof Error ? error.message : String(error))
  }
}

function failure(code: string, message: string, hint = ''): ControlAnswer {
  return { ok: false, error: { code, message, hint } }
}

function lineOf(answer: ControlAnswer): string {
  return `${JSON.stringify(answer)}\n`
}

function write(socket: Socket, answer: ControlAnswer): Promise<void> {
  if (socket.destroyed) return Promise.resolve()
  return new Promise((resolve) => {
    socket.once('close', resolve)
    socket.write(lineOf(answer), () => {
      socket.off('close', resolve)
      resolve()
    })
  })
}
