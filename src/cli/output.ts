// SPDX-License-Identifier: MIT
import { isSyscallError, LowerwatchError } from '../errors.js'

/** One JSON value on one line of stdout. */
export function printJson(value: unknown): void {
  const bigintToText = (_: string, item: unknown) => (typeof item === 'bigint' ? item.toString() : item)
  process.stdout.write(`${JSON.stringify(value, bigintToText)}\n`)
}

export function printText(text: string): void {
  process.stdout.write(text.endsWith('\n') ? text : `${text}\n`)
}

/** What every failed command prints on stderr: one line; the stack only with LOWERWATCH_DEBUG=1. Returns the exit status. */
export function printError(error: unknown): number {
  process.stderr.write(`lowerwatch: ${lineOf(error)}\n`)
  if (process.env.LOWERWATCH_DEBUG === '1') process.stderr.write(`${stackOf(error)}\n`)
  return error instanceof LowerwatchError ? error.exitCode : 2
}

function lineOf(error: unknown): string {
  if (error instanceof LowerwatchError) return oneLine(error.line)
  if (isSyscallError(error, 'EPERM', 'EACCES')) return `${oneLine(error.message)}: run as root`
  return oneLine(error instanceof Error ? error.message || error.name : String(error))
}

function oneLine(text: string): string {
  return text.trim().replace(/\s*\n\s*/g, '; ')
}

function stackOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  return error.cause === undefined ? `${error.stack}` : `${error.stack}\ncaused by: ${stackOf(error.cause)}`
}

/**
 * A reader that went away (`lowerwatch watch | head`) is no error of ours: the exit status is what it would have been so far.
 * Everything else that standard output cannot take is an error.
 */
export function exitQuietlyOnClosedOutput(): void {
  process.stdout.on('error', exitFor)
}

/** For a command that has something to end first: it sees the errors of both outputs when it writes. */
export function leaveOutputErrors(): void {
  process.stdout.off('error', exitFor)
  // Without a listener the process would end with a stack trace.
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {})
}

function exitFor(error: NodeJS.ErrnoException): never {
  if (error.code === 'EPIPE') process.exit()
  process.exit(printError(new Error(`cannot write to standard output: ${error.message}`, { cause: error })))
}
