// SPDX-License-Identifier: MIT
import { display, toJson } from '../bytes.js'
import { type CheckReport, checkOverlay } from '../coherence/check.js'
import { native } from '../native.js'
import { discoverOverlays, findOverlay } from '../overlay/discover.js'
import { openOverlay } from '../overlay/open.js'
import { argumentBytes } from './arguments.js'
import { relativePaths } from './paths.js'

/** `lowerwatch check MOUNTPOINT [PATH…] [--json]`: exit status 1 when anything is stale. */
export async function command(positional: string[], options: Record<string, unknown>): Promise<number> {
  const [mountPoint, ...paths] = argumentBytes(positional)
  const lane = new native.Lane('check')
  try {
    const description = await findOverlay(await discoverOverlays(lane), mountPoint!, lane)
    const relative = paths.length > 0 ? relativePaths(description, paths) : null
    const overlay = await openOverlay(description)
    try {
      const report = await checkOverlay(overlay, { paths: relative })
      process.stdout.write(options.json === true ? `${JSON.stringify(jsonOf(report))}\n` : textOf(report))
      return report.entries.length > 0 ? 1 : 0
    } finally {
      overlay.close()
    }
  } finally {
    lane.close()
  }
}

function textOf(report: CheckReport): string {
  const lines = report.entries.map(
    ({ kind, path, detail }) => `stale: ${kind} ${path === '' ? '.' : display(path)} (${detail})`,
  )
  const verdict = report.entries.length === 0 ? 'coherent' : `${report.entries.length} stale`
  lines.push(
    `${verdict}: ${report.namesExamined} names in ${report.directoriesExamined} directories examined`,
  )
  for (const limit of report.limits) lines.push(`note: ${limit}`)
  return `${lines.join('\n')}\n`
}

function jsonOf(report: CheckReport): unknown {
  return {
    ...report,
    coherent: report.entries.length === 0,
    entries: report.entries.map(({ path, kind, detail }) => ({ path: toJson(path), kind, detail })),
  }
}
