// SPDX-License-Identifier: MIT
import type { ProbeReport } from './run.js'
export function textReport(report: ProbeReport, _withEvents: boolean): string {
  return report.rows.map((r) => `${r.status} ${r.id}: ${r.seen ?? r.reason} ${JSON.stringify(r.measured)}`).join('\n')
}
