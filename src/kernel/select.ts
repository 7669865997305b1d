// SPDX-License-Identifier: MIT

import { LowerwatchError } from '../errors.js'
import { loadSeries, type Patch, type SeriesName, seriesNames, versionOfRelease, versions } from './series.js'

/** One series, or all of them. */
export type SeriesChoice = SeriesName | 'all'

/**
 * The patches for a kernel, in the order they are applied.
 *
 * @param release its point release, which decides where a series has several folders
 * @throws LowerwatchError UNSUPPORTED_KERNEL when there are none for it
 */
export async function choosePatches(release: string, choice: SeriesChoice): Promise<Patch[]> {
  const names = choice === 'all' ? seriesNames : [choice]
  const patches: Patch[] = []
  for (const name of names) patches.push(...(await loadSeries(release, name)))
  if (patches.length > 0) return patches
  const what = choice === 'all' ? 'no series' : `no ${choice} series`
  const others: string[] = []
  for (const other of await versions())
    for (const name of names) if ((await loadSeries(other, name)).length > 0) others.push(other)
  throw new LowerwatchError('UNSUPPORTED_KERNEL', `there is ${what} for Linux ${versionOfRelease(release)}`, {
    hint: others.length > 0 ? `there is one for ${[...new Set(others)].join(', ')}` : 'there is none yet',
  })
}
