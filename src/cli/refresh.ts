// SPDX-License-Identifier: MIT
import { display, toJson } from '../bytes.js'
import { LowerwatchError } from '../errors.js'
import { native } from '../native.js'
import { discoverOverlays, findOverlay } from '../overlay/discover.js'
import { openOverlay } from '../overlay/open.js'
import { type RefreshReport, refreshOnce, strategies } from '../refresh/once.js'
import { argumentBytes } from './arguments.js'
import { relativePaths } from './paths.js'

/** `lowerwatch refresh MOUNTPOINT [PATH…] [--strategy RUNG] [--dry-run] [--json]` */
export async function command(positional: string[], options: Record<string, unknown>): Promise<number> {
  const [mountPoint, ...paths] = argumentBytes(positional)
  const strategy = strategies.find((name) => name === options.strategy) ?? null
  if (options.strategy !== undefined && strategy === null) {
    throw new LowerwatchError('USAGE', `unknown strategy ${String(options.strategy)}`, {
      hint: `one of ${strategies.join(', ')}`,
    })
  }
  const lane = new native.Lane('refresh')
  const description = await findOverlay(await discoverOverlays(lane), mountPoint!, lane)
  const overlay = await openOverlay(description)
  try {
    const dryRun = options.dryRun === true
    const relative = paths.length > 0 ? relativePaths(description, paths) : null
    const report = await refreshOnce(overlay, { paths: relative, strategy, dryRun })
    process.stdout.write(
      options.json === true ? `${JSON.stringify(jsonOf(report))}\n` : textOf(report, dryRun),
    )
    return (report.after ?? report.before).length > 0 ? 1 : 0
  } finally {
    overlay.close()
    lane.close()
  }
}

function textOf(report: RefreshReport, dryRun: boolean): string {
  const lines = report.before.map((entry) => `stale: ${entry.kind} ${display(entry.path)} (${entry.detail})`)
  const rungs = report.used.join(', ')
  lines.push(dryRun ? `would use: ${rungs}` : `used: ${rungs} in ${report.durationMs.toFixed(1)} ms`)
  for (const entry of report.after ?? []) {
    lines.push(`still stale: ${entry.kind} ${display(entry.path)} (${entry.detail})`)
  }
  for (const holder of report.holders) {
    lines.push(`held by ${holder.pid} ${holder.command} (${holder.via}) ${display(holder.path)}`)
  }
  if (report.after?.length === 0) lines.push('coherent')
  return `${lines.join('\n')}\n`
}

function jsonOf(report: RefreshReport): unknown {
  const entry = ({ path, kind, detail }: RefreshReport['before'][number]) => ({
    path: toJson(path),
    kind,
    detail,
  })
  return {
    ...report,
    before: report.before.map(entry),
    after: report.after?.map(entry) ?? null,
    holders: report.holders.map((holder) => ({ ...holder, path: toJson(holder.path) })),
  }
}
