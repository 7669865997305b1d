// SPDX-License-Identifier: MIT

import { cacheRoot } from './cache.js'
import { checkUpdates, type Drift, describeRebased, pointSource, rebasedJson, stateOf } from './drift.js'
import { planRefresh, refuseOlder } from './refresh.js'
import { choosePatches } from './select.js'
import { loadFolders, newestFolders, patchesDirectory } from './series.js'
import { openTree } from './tree.js'

const say = (line: string) => void process.stdout.write(`${line}\n`)
const note = (line: string) => void process.stderr.write(`${line}\n`)

const words = {
  applies: 'applies',
  offsets: 'applies with offsets',
  conflicts: 'conflicts',
} as const

/** Exit 0 whatever the answer is: a conflict is a warning, for a person to look at. */
export async function checkUpdatesCommand(options: { json?: boolean }): Promise<void> {
  const rows = await checkUpdates(note)
  if (options.json) {
    const json = rows.map((row) => ({ ...row, patches: row.patches.map(rebasedJson) }))
    return say(JSON.stringify({ series: json }, null, 2))
  }
  for (const row of rows) for (const line of describeDrift(row)) say(line)
  const conflicts = rows.filter(({ state }) => state === 'conflicts')
  if (conflicts.length > 0)
    note(`warning: ${conflicts.length} of ${rows.length} series conflict with a newer point release`)
}

/** Exported for its test. */
export function describeDrift({ version, series, base, newest, state, patches }: Drift): string[] {
  const head = `${version}/${series} on ${base}: `
  if (newest === null) return [`${head}the mirror has no source of ${version}`]
  if (state === 'current') {
    const is = newest.release === base ? 'the newest there' : `nothing newer there (${newest.release})`
    return [head + is]
  }
  const fit = patches.filter((patch) => patch.state === 'applies' || patch.state === 'offsets').length
  const count = state === 'conflicts' ? `, ${fit} of ${patches.length} patches apply` : ''
  return [
    `${head}${newest.release} (${newest.packageVersion}) is there, ${words[state]}${count}`,
    ...patches.flatMap(describeRebased),
  ]
}

interface RefreshOptions {
  tree?: string
  dryRun?: boolean
  json?: boolean
}

/** Exit 1 when a patch conflicts; then nothing is changed. */
export async function refreshCommand(
  wanted: string,
  options: RefreshOptions,
  directory = patchesDirectory,
): Promise<void> {
  const version = wanted.split('.').slice(0, 2).join('.')
  const folders = newestFolders(await loadFolders(version, directory))
  // Says which versions there are.
  if (folders.length === 0) await choosePatches(version, 'all')
  if (wanted !== version) refuseOlder(folders, wanted)
  const tree = await openTree(options.tree ?? (await pointSource(wanted, folders, note, cacheRoot())))
  const plan = await planRefresh(folders, tree, directory)
  const changed = plan.files.changed().length
  if (plan.possible && !options.dryRun) await plan.files.commit()
  if (!plan.possible) process.exitCode = 1
  if (options.json) {
    const series = plan.series.map(({ folder, patches }) => ({
      folder: folder.folder,
      base: folder.base,
      state: stateOf(patches),
      patches: patches.map(rebasedJson),
    }))
    const written = plan.possible && !options.dryRun ? changed : 0
    return say(JSON.stringify({ release: tree.release, written, series }, null, 2))
  }
  for (const { folder, patches } of plan.series) {
    say(`${folder.folder}, ${folder.base} to ${tree.release}: ${words[stateOf(patches)]}`)
    for (const line of patches.flatMap(describeRebased)) say(line)
  }
  if (!plan.possible) say('nothing changed: a series with conflicts has to be rebased by hand')
  else if (options.dryRun) say(`${changed} files would be written`)
  else
    say(
      changed === 0
        ? 'nothing to change'
        : `${changed} files written: build and run the tests before using them`,
    )
}
