// SPDX-License-Identifier: MIT

import { LowerwatchError } from '../errors.js'
import { obtainBuild } from './commands.js'
import type { DebugVariant } from './configs.js'
import type { SeriesChoice } from './select.js'
import { loadFolders, seriesNames } from './series.js'

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
    const folders = await loadFolders(version)
    const present = seriesNames.filter((name) => folders.some(({ series }) => series === name))
    const choices: SeriesChoice[] = present.length > 1 ? ['all', ...present] : present
    for (const series of choices) await obtainBuild({ version, target: 'uml', series, ...variant })
  } catch (error) {
    const line = error instanceof LowerwatchError ? error.line : String(error)
    // The prefix is that of scripts/lib.sh: one run of the tests can be refused by either, or by `lowerwatch kernel test`.
    const what = `lowerwatch: no ${kind} kernel of Linux ${version} to test: `
    process.stderr.write(`${what}${line.trim().replace(/\s*\n\s*/g, '; ')}\n`)
    process.exitCode = 2
  }
}
