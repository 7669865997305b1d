// SPDX-License-Identifier: MIT
import { cpus, release, totalmem } from 'node:os'
import type { CaseResult, Kind, Resources, Sample } from './measure.js'
import type { System } from './systems.js'

export interface Results {
  samples: Map<string, Map<Kind, Sample[]>>
  cases: Map<string, CaseResult[]>
  /** Null when lowerwatch itself was left out. */
  resources: Resources | null
  turns: number
}

/** Of the samples that came right. */
export function percentile(samples: readonly Sample[], share: number): number {
  const sorted = samples.filter((sample) => sample !== null).sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN
}

export function milliseconds(ns: number): string {
  if (Number.isNaN(ns)) return 'never'
  return ns < 1e6 ? `${(ns / 1e3).toFixed(0)} µs` : `${(ns / 1e6).toFixed(1)} ms`
}

function table(head: string[], rows: string[][]): string {
  const line = (cells: string[]) => `| ${cells.join(' | ')} |`
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n')
}

const titles: Record<Kind, string> = {
  create: 'file created after a cached ENOENT',
  replace: 'file replaced by rename',
  remove: 'file removed',
  burst: '2,000 files replaced, all of them right after the last change',
  listing: 'file created in a directory whose listing is held',
}

function latencyTable({ samples }: Results, systems: System[]): string {
  const rows = (Object.keys(titles) as Kind[]).flatMap((kind) =>
    systems.map(({ name }) => {
      const of = samples.get(name)?.get(kind) ?? []
      const shares = [0.5, 0.9, 0.99].map((share) => milliseconds(percentile(of, share)))
      const never = of.filter((sample) => sample === null).length
      return [titles[kind], name, ...shares, milliseconds(percentile(of, 1)), `${never} of ${of.length}`]
    }),
  )
  return table(['change', 'system', 'median', '90 %', '99 %', 'longest', 'never right'], rows)
}

function ratios({ samples }: Results): string[] {
  if (!samples.has('lowerwatch')) return []
  const median = (name: string, kind: Kind) => percentile(samples.get(name)?.get(kind) ?? [], 0.5)
  return (['create', 'replace', 'remove'] as const).map((kind) => {
    const own = median('lowerwatch', kind)
    const loop = (median('remount loop', kind) / own).toFixed(1)
    const floor = (own / median('C floor', kind)).toFixed(1)
    return `- ${titles[kind]}: the loop takes ${loop} times as long as lowerwatch, lowerwatch ${floor} times as long as the floor`
  })
}

/** Null: not right in every turn. */
function latencies({ latenciesMs }: CaseResult): number[] | null {
  const right = latenciesMs.filter((latencyMs) => latencyMs !== null)
  return right.length === latenciesMs.length ? right : null
}

function isInTime(result: CaseResult): boolean {
  const all = latencies(result)
  return all !== null && percentile(all, 0.5) <= (result.row.burst === true ? 100 : 20)
}

function count(results: CaseResult[], which: (result: CaseResult) => boolean): string {
  const chosen = results.filter(which)
  return `${chosen.filter((result) => latencies(result) !== null).length} of ${chosen.length}`
}

function caseTable({ cases }: Results, systems: System[]): string {
  const held = ({ row }: CaseResult) => row.holder !== undefined && row.expect === 'coherent'
  const pinned = ({ row }: CaseResult) => row.expect === 'coherent-after-holder'
  const rows = systems.map(({ name }) => {
    const results = cases.get(name) ?? []
    const inTime = results.filter(isInTime)
    return [
      name,
      count(results, (result) => !held(result) && !pinned(result)),
      count(results, held),
      count(results, pinned),
      `${inTime.length} of ${results.length}`,
    ]
  })
  const head = [
    'system',
    'right, not held',
    'right, while held',
    'right after the holder let go',
    'within 20 ms (bursts 100 ms)',
  ]
  return table(head, rows)
}

function lateCases({ cases }: Results): string[] {
  const late = (cases.get('lowerwatch') ?? []).filter((result) => !isInTime(result))
  return late.map((result) => {
    const all = latencies(result)
    const seen = all === null ? 'not right in every turn' : `median ${percentile(all, 0.5).toFixed(1)} ms`
    return `- ${result.row.name} (${result.lowerFs}): ${seen}`
  })
}

const mebibytes = (bytes: number) => `${(bytes / 2 ** 20).toFixed(0)} MiB`
const median = (values: number[]) => percentile(values, 0.5).toFixed(0)

function costs(resources: Resources): string {
  return `## Cost

- Ready after ${median(resources.readyMs)} ms with one overlay, ${median(resources.readyTenMs)} ms with ten (median of ${resources.readyMs.length} starts, from the spawn of the process to the log's \`ready\`; longest ${Math.max(...resources.readyMs, ...resources.readyTenMs).toFixed(0)} ms).
- Resident memory with ten overlays, after work: ${mebibytes(resources.residentBytes)}, at most ${mebibytes(resources.peakBytes)}.
- ${resources.uncachedNames.toLocaleString('en')} changes to names that the overlay had not cached: ${resources.uncachedRefreshes} refreshes.
`
}

/** The whole page, as docs/benchmarks.md has it. */
export function report(results: Results, systems: System[], command: string): string {
  const { resources, turns } = results
  const [cpu] = cpus()
  const late = lateCases(results)
  return `# Benchmarks

Written by \`${command}\` on ${new Date().toISOString().slice(0, 10)}: ${cpu?.model.trim()}, ${cpus().length} cores, ${mebibytes(totalmem())}, Linux ${release()}, Node ${process.version}.

Time from the end of the changing system call to the first right answer through the overlay, as \`test/bench/poller.c\` sees it by looking without pause. The three take turns, ${turns} each, in one run on one machine; lower and upper are tmpfs.

${systems.map(({ name, what }) => `- **${name}**: ${what}`).join('\n')}

## Latency

${latencyTable(results, systems)}

${ratios(results).join('\n')}

## Cases

The rows of \`test/integration/cases\` that a stock kernel gets wrong, on tmpfs and cgroup2. A held row has a process that keeps a directory, a file or its working directory there. Where it pins what a stock kernel cannot cure, the row is looked at from when that process has let go. ${turns} turns each, right in all of them; in time by the median.

${caseTable(results, systems)}
${late.length === 0 ? '' : `\nNot in time with lowerwatch:\n\n${late.join('\n')}\n`}
${resources === null ? '' : costs(resources)}`
}
