// SPDX-License-Identifier: MIT

import { createHash } from 'node:crypto'
import type { ByteString } from '../bytes.js'
import { scanDiff } from './diff.js'
import { type Content, placesInContent } from './hunks.js'
import { judge, type PatchState } from './inspect.js'
import type { Patch } from './series.js'
import type { Conflict, Workspace } from './workspace.js'

/** A hunk that goes in at another line than the patch says. */
export interface Moved {
  file: ByteString
  hunk: number
  /** Lines further down; negative: further up. */
  by: number
}

/** `offsets`: applies, with hunks in other places. The others as {@link PatchState}; none of them is in the tree. */
export type RebaseState = PatchState | 'offsets'

export interface RebasedPatch {
  patch: Patch
  state: RebaseState
  conflicts: Conflict[]
  moved: Moved[]
  /** The patch as it would be written for this tree; unchanged where it does not apply. */
  text: ByteString
}

/**
 * Puts a series on a tree, patch after patch. Of one that does not apply the files that do are taken, so that later ones are
 * judged by themselves and not by what is missing before them.
 */
export async function rebase(tree: Workspace, patches: Patch[]): Promise<RebasedPatch[]> {
  const on = tree.fork()
  const result: RebasedPatch[] = []
  for (const patch of patches) result.push(await rebaseOne(on, patch))
  return result
}

async function rebaseOne(tree: Workspace, patch: Patch): Promise<RebasedPatch> {
  const before = tree.fork()
  const { state, conflicts } = await judge(tree, patch)
  if (state === 'conflict' || state === 'partial') for (const diff of patch.diffs) await tree.apply([diff])
  if (state !== 'applies') return { patch, state, conflicts, moved: [], text: patch.text }
  const lines = patch.text.split('\n')
  const { files, marks } = scanDiff(patch.text, patch.name)
  const moved: Moved[] = []
  for (const [at, file] of files.entries()) {
    const path = (file.newPath ?? file.oldPath)!
    const places = placesInContent(file, await before.read(path))!
    for (const [i, hunk] of file.hunks.entries()) {
      const { oldStart, newStart } = places[i]!
      if (oldStart !== hunk.oldStart)
        moved.push({ file: path, hunk: hunk.number, by: oldStart - hunk.oldStart })
      const line = marks[at]!.hunks[i]!
      lines[line] = lines[line]!.replace(
        /^@@ -\d+(,\d+)? \+\d+(,\d+)? @@/,
        (_, old = '', added = '') => `@@ -${oldStart}${old} +${newStart}${added} @@`,
      )
    }
    // `git am -3` finds the files that a patch was made for by these.
    const index = marks[at]!.index
    if (index >= 0) lines[index] = renameBlobs(lines[index]!, await before.read(path), await tree.read(path))
  }
  return { patch, state: moved.length > 0 ? 'offsets' : 'applies', conflicts, moved, text: lines.join('\n') }
}

/** The `index` line of a diff with the names that git gives these contents, as long as those that were there. */
function renameBlobs(line: ByteString, before: Content, after: Content): ByteString {
  return line.replace(
    /^index ([0-9a-f]+)\.\.([0-9a-f]+)/,
    (_, old: string, now: string) => `index ${blobName(before, old.length)}..${blobName(after, now.length)}`,
  )
}

/** Source: gitformat-pack(5), objects are named by the hash of a header and the content; no file is all zeros. */
function blobName(content: Content, length: number): string {
  if (content === null) return '0'.repeat(length)
  const hash = createHash('sha1').update(`blob ${content.length}\0`).update(content, 'latin1')
  return hash.digest('hex').slice(0, length)
}
