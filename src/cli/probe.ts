// SPDX-License-Identifier: MIT
import { LowerwatchError } from '../errors.js'
import { loadTable } from '../probe/expectations.js'
import { allExperiments } from '../probe/experiments.js'
import { acceptPlan, type SandboxPlan } from '../probe/plan.js'
import { type ProbeReport, runProbe } from '../probe/run.js'
import { planMarker, superviseProbe } from '../probe/supervise.js'
import { undo } from '../probe/undo.js'
import { printJson, printText } from './output.js'

/** `lowerwatch probe`: exit status 1 when a row differs from the expectation table, or something is left behind. */
export async function command(_positional: string[], options: Record<string, unknown>): Promise<number> {
  if (options.matrix !== undefined) {
    const { matrix, readReport } = await import('../probe/matrix.js')
    printText(matrix((options.matrix as string[]).map(readReport)))
    return 0
  }
  const table = loadTable(options.expect as string | undefined)
  const wanted = chosen(options.only as string | undefined)
  if (options.json === true && options.tap === true)
    throw new LowerwatchError('USAGE', 'either --json or --tap')
  const handed = process.env[planMarker]
  if (handed === undefined) return superviseProbe(process.argv.slice(2))
  const plan = acceptPlan(handed)
  return inside(plan, async (interrupted) => {
    const report = await runProbe({ plan, table, wanted, interrupted })
    if (interrupted()) return 2
    await print(report, options)
    return report.leftBehind.length > 0 || report.rows.some((row) => row.status === 'differs') ? 1 : 0
  })
}

function chosen(pattern: string | undefined): (row: string) => boolean {
  if (pattern === undefined) return () => true
  let expression: RegExp
  try {
    expression = new RegExp(pattern)
  } catch (error) {
    throw new LowerwatchError('USAGE', `--only ${pattern} is no regular expression`, { cause: error })
  }
  const rows = allExperiments().flatMap((experiment) => experiment.rows)
  if (!rows.some(({ id }) => expression.test(id)))
    throw new LowerwatchError('USAGE', `--only ${pattern} matches no row`)
  return (row) => expression.test(row)
}

/** Until the work is done, a signal or the end of the supervisor makes it end early and clear up. */
async function inside(
  plan: SandboxPlan,
  work: (interrupted: () => boolean) => Promise<number>,
): Promise<number> {
  let interrupted = false
  let orphaned = false
  const stop = () => {
    interrupted = true
  }
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, stop)
  process.stdin.on('end', () => {
    orphaned = true
    stop()
  })
  process.stdin.resume()
  try {
    return await work(() => interrupted)
  } finally {
    if (orphaned) await undo(plan)
    process.stdin.destroy()
  }
}

async function print(report: ProbeReport, options: Record<string, unknown>): Promise<void> {
  const withEvents = options.events === true
  if (options.json === true) {
    const rows = report.rows.map(({ events, ...row }) => (withEvents ? { ...row, events } : row))
    printJson({ ...report, rows })
  } else if (options.tap === true) {
    printText((await import('../probe/report-tap.js')).tapReport(report, withEvents))
  } else {
    printText((await import('../probe/report-text.js')).textReport(report, withEvents))
  }
}
