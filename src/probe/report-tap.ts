// SPDX-License-Identifier: MIT
import { eventLine } from './events.js'
import type { ProbeReport } from './run.js'

/** TAP 14: one test point for each row. */
export function tapReport(report: ProbeReport, withEvents: boolean): string {
  const lines = ['TAP version 14', `1..${report.rows.length}`]
  for (const [index, row] of report.rows.entries()) {
    const verdict = row.status === 'differs' ? 'not ok' : 'ok'
    const skip = row.status === 'skipped' ? ` # SKIP ${escapeText(row.reason)}` : ''
    lines.push(`${verdict} ${index + 1} - ${escapeText(row.id)}${skip}`)
    if (row.status === 'differs') {
      const said = { did: row.did, expected: row.expected, seen: row.seen }
      lines.push(
        '  ---',
        ...Object.entries(said).map(([key, value]) => `  ${key}: ${JSON.stringify(value)}`),
        '  ...',
      )
    }
    if (withEvents) for (const event of row.events) lines.push(`# ${eventLine(event)}`)
  }
  for (const left of report.leftBehind) lines.push(`Bail out! left behind: ${left}`)
  return lines.join('\n')
}

/** A hash sign would begin a directive. */
function escapeText(text: string): string {
  return text.replace(/[\\#]/g, '\\$&').replace(/\s+/g, ' ')
}
