// SPDX-License-Identifier: MIT

import { readdir } from 'node:fs/promises'
import { LowerwatchError } from '../errors.js'
import { compareDebian } from './apt.js'
import { stateOf } from './drift.js'
import { type RebasedPatch, rebase } from './rebase.js'
import { baseLine, type SeriesFolder } from './series.js'
import type { Tree } from './tree.js'
import { Workspace } from './workspace.js'

export interface Refreshed {
  folder: SeriesFolder
  patches: RebasedPatch[]
}

export interface RefreshPlan {
  series: Refreshed[]
  /** False when a patch of one of them conflicts: nothing is to be written then. */
  possible: boolean
  /** The patches as they would be, to be committed. */
  files: Workspace
}

/**
 * What it takes to have the series of a version based on this tree: positions of hunks, names of blobs, the base in
 * `series` and cover letter. Each series is put on the tree alone, as it is kept. Nothing is written before `files` is
 * committed, which writes all or nothing.
 *
 * Patches come first and `series` last: a process that is killed half way leaves patches that all apply, and the old base.
 *
 * @throws LowerwatchError USAGE when the tree is older than a base, or of another version
 */
export async function planRefresh(
  folders: SeriesFolder[],
  tree: Tree,
  directory: string,
): Promise<RefreshPlan> {
  const files = new Workspace(directory)
  const series: Refreshed[] = []
  refuseOlder(folders, tree.release)
  for (const folder of folders) {
    if (folder.version !== tree.version)
      throw new LowerwatchError('USAGE', `${tree.root} is Linux ${tree.release}, not ${folder.version}`)
    if (!/^\d+\.\d+(\.\d+)?$/.test(tree.release))
      throw new LowerwatchError('USAGE', `Linux ${tree.release} is no point release`)
    series.push({ folder, patches: await rebase(new Workspace(tree.root), folder.patches) })
  }
  const possible = series.every(({ patches }) => stateOf(patches) !== 'conflicts')
  for (const { folder, patches } of possible ? series : [])
    for (const { patch, text } of patches) await files.put(`${folder.folder}/${patch.name}`, text)
  for (const { folder } of possible ? series : []) {
    const names = await readdir(`${directory}/${folder.folder}`)
    for (const name of ['0000-cover-letter.txt', 'series']) {
      if (!names.includes(name)) continue
      const path = `${folder.folder}/${name}`
      const text = (await files.read(path))!
      await files.put(
        path,
        text.replace(baseLine, (_, start: string) => start + tree.release),
      )
    }
  }
  return { series, possible, files }
}

/** @throws LowerwatchError USAGE when a series is based on something newer */
export function refuseOlder(folders: SeriesFolder[], release: string): void {
  for (const { folder, base } of folders)
    if (compareDebian(release, base) < 0)
      throw new LowerwatchError('USAGE', `Linux ${release} is older than ${base}`, {
        hint: `the base of ${folder}; name a newer one`,
      })
}
