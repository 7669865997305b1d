// SPDX-License-Identifier: MIT

import { LowerwatchError } from '../errors.js'
import { obtainBuild } from './commands.js'
import type { DebugVariant } from './configs.js'
import type { SeriesChoice } from './select.js'
import { loadSeries, type SeriesName, seriesNames } from './series.js'

/**
 * Builds what the kernel tests boot: the stock kernel, or one for each series of the version and one with all of them. Ends
 * the process with 2 and one line when it cannot.
 */
export async function buildForTests(
  version: string,
  kind: 'stock' | 'patched',
  debug: string,
): Promise<void> {
  const variant = debug === '' ? {} : { debug: debug as DebugVariant }
  try {
    if (kind === 'stock') {
      await obtainBuild({ version, target: 'uml', series: 'all', stock: true, ...variant })
      return
    }
    const present: SeriesName[] = []
    for (const series of seriesNames) if ((await loadSeries(version, series)).length > 0) present.push(series)
    const choices: SeriesChoice[] = present.length > 1 ? ['all', ...present] : present
    for (const series of choices) await obtainBuild({ version, target: 'uml', series, ...variant })
  } catch (error) {
    if (!(error instanceof LowerwatchError)) throw error
    process.stderr.write(`test-kernel: ${error.line}\n`)
    process.exitCode = 2
  }
}
