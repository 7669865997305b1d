// SPDX-License-Identifier: MIT

import { type ByteString, display } from '../bytes.js'
import { LowerwatchError } from '../errors.js'
import { Archive, compareDebian } from './apt.js'
import { cacheRoot } from './cache.js'
import { fetchPart, type PointRelease, pointReleases } from './fetch.js'
import { type RebasedPatch, rebase } from './rebase.js'
import { loadFolders, newestFolders, type SeriesFolder, versions } from './series.js'
import { Workspace } from './workspace.js'

/**
 * What a series is to a point release. `current`: the mirror has nothing newer than the base, nothing was tried.
 * `offsets`: applies, with hunks at other lines. `conflicts`: at least one patch does not, or is in it already.
 */
export type DriftState = 'current' | 'applies' | 'offsets' | 'conflicts'

export interface Drift {
  version: string
  series: SeriesFolder['series']
  base: string
  /** The newest that the mirror has of this version, older ones too; null when it has none. */
  newest: PointRelease | null
  state: DriftState
  patches: RebasedPatch[]
}

/**
 * Tries every series on the newest point release of its version that the mirror has, of several folders of one the newest.
 * The package index decides whether there is a newer one: only then is a source downloaded.
 *
 * @param note is called with one line for each step
 * @throws LowerwatchError KERNEL (no network), MISSING_TOOL
 */
export async function checkUpdates(
  note: (line: string) => void,
  root = cacheRoot(),
  directory?: string,
): Promise<Drift[]> {
  const archive = await Archive.open(root, note)
  const rows: Drift[] = []
  for (const version of await versions(directory)) {
    const folders = newestFolders(await loadFolders(version, directory))
    const newest = (await pointReleases(archive, version))[0] ?? null
    const behind = folders.some(({ base }) => newest !== null && compareDebian(newest.release, base) > 0)
    const tree = behind
      ? await fetchPart(async () => archive, version, newest!.packageVersion, pathsOf(folders), note, root)
      : null
    for (const folder of folders) rows.push(await compare(folder, newest, tree))
  }
  return rows
}

async function compare(
  folder: SeriesFolder,
  newest: PointRelease | null,
  tree: string | null,
): Promise<Drift> {
  const { version, series, base } = folder
  if (tree === null || newest === null || compareDebian(newest.release, base) <= 0)
    return { version, series, base, newest, state: 'current', patches: [] }
  const patches = await rebase(new Workspace(tree), folder.patches)
  return { version, series, base, newest, state: stateOf(patches), patches }
}

/** The files that patches read or create. */
export function pathsOf(folders: SeriesFolder[]): ByteString[] {
  const diffs = folders.flatMap(({ patches }) => patches.flatMap((patch) => patch.diffs))
  return [...new Set(diffs.map((diff) => (diff.newPath ?? diff.oldPath)!))].sort()
}

export function stateOf(patches: RebasedPatch[]): Exclude<DriftState, 'current'> {
  if (patches.some(({ state }) => state !== 'applies' && state !== 'offsets')) return 'conflicts'
  return patches.some(({ state }) => state === 'offsets') ? 'offsets' : 'applies'
}

/**
 * The source that a series is to be rebased onto: a tree, or the named or newest point release of the mirror.
 *
 * @param wanted `7.2` for the newest, or `7.2.14`
 * @throws LowerwatchError KERNEL when the mirror does not have it
 */
export async function pointSource(
  wanted: string,
  folders: SeriesFolder[],
  note: (line: string) => void,
  root = cacheRoot(),
): Promise<string> {
  const version = wanted.split('.').slice(0, 2).join('.')
  const archive = await Archive.open(root, note)
  const all = await pointReleases(archive, version)
  const point = wanted === version ? all[0] : all.find(({ release }) => release === wanted)
  if (!point)
    throw new LowerwatchError('KERNEL', `the mirror has no Linux ${wanted}`, {
      hint: `it has ${[...new Set(all.map(({ release }) => release))].join(', ') || `no ${version}`}; or give an unpacked source with --tree`,
    })
  return fetchPart(async () => archive, version, point.packageVersion, pathsOf(folders), note, root)
}

/** Lines for people about patches on another release: a head for each that is not as it was, and what is the matter. */
export function describeRebased({ patch, state, conflicts, moved }: RebasedPatch): string[] {
  const name = `${patch.name.split('-')[0]} ${patch.subject}`
  const at = (file: ByteString, hunk: number) => `      ${display(file)}, hunk ${hunk}`
  if (state === 'applies') return []
  if (state === 'applied') return [`    is in already    ${name}`]
  if (state === 'offsets')
    return [
      `    with offsets     ${name}`,
      ...moved.map(
        ({ file, hunk, by }) => `${at(file, hunk)}: ${lines(Math.abs(by))} ${by < 0 ? 'up' : 'down'}`,
      ),
    ]
  return [
    `    ${state === 'partial' ? 'partly in already' : 'conflicts'.padEnd(16)} ${name}`,
    ...conflicts.map(({ file, hunk, why }) => `${at(file, hunk)}: ${display(why)}`),
  ]
}

const lines = (count: number) => (count === 1 ? '1 line' : `${count} lines`)

/** What programs are told of a patch. */
export function rebasedJson({ patch, state, conflicts, moved }: RebasedPatch): object {
  return {
    name: patch.name,
    subject: patch.subject,
    state,
    conflicts: conflicts.map((conflict) => ({ ...conflict, file: display(conflict.file) })),
    moved: moved.map((hunk) => ({ ...hunk, file: display(hunk.file) })),
  }
}
