// SPDX-License-Identifier: MIT
import { type DestinationStream, destination, type Logger as PinoLogger, pino } from 'pino'
import type { LogLevel } from './config.js'

/**
 * The daemon's log, on stderr: lines of JSON, or text where stderr is a terminal. Names in it must have gone
 * through display() or toJson() of bytes.ts.
 */
export type Logger = PinoLogger

export function createLogger(level: LogLevel): Logger {
  return pino(
    {
      level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    },
    process.stderr.isTTY ? textStream() : jsonStream(),
  )
}

/** Synchronous: the last lines before a crash are those that matter, and there are few. */
function jsonStream(): DestinationStream {
  const stream = destination({ fd: 2, sync: true })
  // Whoever read the log is gone. The overlays are still to be served.
  stream.on('error', () => {})
  return stream
}

function textStream(): DestinationStream {
  return { write: (line) => void process.stderr.write(textOf(line)) }
}

/** `12:34:56.789 info watching overlay=/merged device=0:40` */
export function textOf(line: string): string {
  const { level, time, msg, ...fields } = JSON.parse(line) as Record<string, unknown>
  const rest = Object.entries(fields).map(([key, value]) => ` ${key}=${show(value)}`)
  return `${String(time).slice(11, 23)} ${level} ${msg}${rest.join('')}\n`
}

function show(value: unknown): string {
  return typeof value === 'string' && /^[^\s"=]+$/.test(value) ? value : JSON.stringify(value)
}
