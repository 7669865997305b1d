// SPDX-License-Identifier: MIT
import { createConnection } from 'node:net'
import { type ErrorCode, errorCodes, LowerwatchError } from '../errors.js'
import type { ControlAnswer, ControlRequest } from './socket.js'

/**
 * Asks the daemon that listens on `path`. Rejects with DAEMON_UNREACHABLE when none answers within `timeoutMs`,
 * and with the daemon's own error otherwise.
 */
export async function askDaemon(path: string, request: ControlRequest, timeoutMs = 10_000): Promise<unknown> {
  const line = await exchange(path, `${JSON.stringify(request)}\n`, timeoutMs)
  let answer: ControlAnswer
  try {
    answer = JSON.parse(line)
  } catch (cause) {
    throw unreachable(path, 'its answer is not JSON', cause)
  }
  if (answer.ok) return answer.result
  const { code, message, hint } = answer.error
  throw new LowerwatchError(code in errorCodes ? (code as ErrorCode) : 'SYSCALL', message, { hint })
}

function exchange(path: string, request: string, timeoutMs: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = createConnection(path, () => socket.write(request))
    const chunks: string[] = []
    const timer = setTimeout(() => socket.destroy(new Error(`no answer within ${timeoutMs} ms`)), timeoutMs)
    socket.setEncoding('utf8')
    socket.on('data', (chunk: string) => {
      chunks.push(chunk)
      if (chunk.includes('\n')) socket.end()
    })
    socket.on('error', (error: NodeJS.ErrnoException) => {
      reject(unreachable(path, reasons[error.code ?? ''] ?? error.message, error))
    })
    socket.on('close', () => {
      clearTimeout(timer)
      const [line, rest] = chunks.join('').split('\n')
      if (rest === undefined) reject(unreachable(path, 'it closed the connection'))
      else resolve(line!)
    })
  })
}

const reasons: Record<string, string> = {
  ENOENT: 'there is no such socket',
  ECONNREFUSED: 'nobody listens there',
  EACCES: 'not permitted',
}

function unreachable(path: string, why: string, cause?: unknown): LowerwatchError {
  return new LowerwatchError('DAEMON_UNREACHABLE', `no daemon answers on ${path}: ${why}`, {
    hint: 'start one with `lowerwatch run`, or give its --socket',
    cause,
  })
}
