// SPDX-License-Identifier: MIT
import { display, toJson } from '../bytes.js'
import { findHolders } from '../coherence/holders.js'
import { native } from '../native.js'
import { discoverOverlays, findOverlay } from '../overlay/discover.js'
import { openOverlay } from '../overlay/open.js'
import type { Holder } from '../overlay/types.js'
import { argumentBytes } from './arguments.js'
import { relativePaths } from './paths.js'

/** `lowerwatch holders MOUNTPOINT [PATH…] [--json]`: exit status 0, found or not. */
export async function command(positional: string[], options: Record<string, unknown>): Promise<number> {
  const [mountPoint, ...paths] = argumentBytes(positional)
  const lane = new native.Lane('holders')
  try {
    const description = await findOverlay(await discoverOverlays(lane), mountPoint!, lane)
    const only = paths.length > 0 ? { paths: relativePaths(description, paths) } : {}
    const overlay = await openOverlay(description)
    try {
      const { holders, unreadable } = await findHolders(overlay, only)
      if (options.json === true) {
        const list = holders.map((holder) => ({ ...holder, path: toJson(holder.path) }))
        process.stdout.write(`${JSON.stringify({ holders: list, unreadable })}\n`)
      } else {
        process.stdout.write(holders.map(lineOf).join(''))
        if (unreadable > 0) process.stderr.write(`${unreadable} processes could not be read: run as root\n`)
      }
      return 0
    } finally {
      overlay.close()
    }
  } finally {
    lane.close()
  }
}

/** `1234 bash cwd a/b` */
function lineOf(holder: Holder): string {
  const via = holder.via === 'fd' ? `fd ${holder.fd}` : holder.via
  const path = holder.path === '' ? '.' : display(holder.path)
  return `${holder.pid}\t${holder.command}\t${via}\t${path}${holder.deleted ? ' (deleted)' : ''}\n`
}
