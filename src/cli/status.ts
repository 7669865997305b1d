// SPDX-License-Identifier: MIT
import { askDaemon } from '../daemon/client.js'
import { defaultSocketPath } from '../daemon/socket.js'
import type { DaemonStatus } from '../daemon/status.js'
import { printJson, printText } from './output.js'

/** `lowerwatch status [--json] [--socket PATH]` */
export async function command(_positional: string[], options: Record<string, unknown>): Promise<number> {
  const path = typeof options.socket === 'string' ? options.socket : defaultSocketPath()
  const status = (await askDaemon(path, { request: 'status' })) as DaemonStatus
  if (options.json === true) {
    printJson(status)
  } else {
    const { statusText } = await import('../daemon/status-text.js')
    printText(statusText(status))
  }
  return 0
}
