// SPDX-License-Identifier: MIT
import { runDaemon } from '../daemon/run.js'
import { argumentBytes } from './arguments.js'

/** `lowerwatch run [MOUNTPOINT…] [--all] [--config FILE] [--socket PATH]` */
export async function command(positional: string[], options: Record<string, unknown>): Promise<number> {
  const text = (value: unknown) => (typeof value === 'string' ? value : null)
  await runDaemon({
    mountPoints: argumentBytes(positional),
    all: options.all === true,
    configFile: text(options.config),
    socket: text(options.socket),
  })
  return 0
}
