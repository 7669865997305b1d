// SPDX-License-Identifier: MIT

import { release } from 'node:os'
import { inspect, type PatchState } from './inspect.js'
import { runningKernfs, runningOverlayfs } from './running.js'
import { folderFor, loadFolders, type Patch, type SeriesFolder, versions } from './series.js'
import { requireWhole } from './transaction.js'
import { openTree, type Tree } from './tree.js'
import { Workspace } from './workspace.js'

const say = (line: string) => void process.stdout.write(`${line}\n`)

interface ListOptions {
  tree?: string
  messages?: boolean
  json?: boolean
}

/** A series, and what a tree has of it: null when it is not for that tree. */
interface Row extends SeriesFolder {
  states: PatchState[] | null
}

/** `lowerwatch kernel list` */
export async function list(options: ListOptions): Promise<void> {
  const tree = options.tree === undefined ? null : await openTree(options.tree)
  if (tree) await requireWhole(tree.root)
  const rows: Row[] = []
  for (const version of await versions()) {
    const folders = (await loadFolders(version)).filter(({ series }) => series !== 'test-only')
    for (const folder of folders) rows.push({ ...folder, states: await statesIn(tree, folder, folders) })
  }
  const running = {
    release: release(),
    overlayfs: await runningOverlayfs(),
    kernfs: await runningKernfs(),
  }
  if (options.json) return say(JSON.stringify({ series: rows.map(forPrograms), running }, null, 2))
  for (const row of rows) for (const line of forPeople(row, options.messages === true)) say(line)
  if (tree && !rows.some((row) => row.version === tree.version))
    say(`${tree.root} is Linux ${tree.release}: no series for it`)
  say(`running Linux ${running.release}`)
  say(`  overlayfs series ${running.overlayfs}`)
  say(`  kernfs series ${running.kernfs}`)
}

async function statesIn(
  tree: Tree | null,
  folder: SeriesFolder,
  folders: SeriesFolder[],
): Promise<PatchState[] | null> {
  if (tree?.version !== folder.version) return null
  if (folderFor(folders, folder.series, tree.release) !== folder) return null
  return (await inspect(new Workspace(tree.root), folder.patches)).patches.map(({ state }) => state)
}

function forPeople({ version, series, base, patches, states }: Row, messages: boolean): string[] {
  const lines = [`Linux ${version}, ${series} on ${base}: ${patches.length} patches`]
  for (const [i, { name, subject, message }] of patches.entries()) {
    lines.push(`  ${name.split('-')[0]} ${subject}${states ? ` [${states[i]}]` : ''}`)
    if (messages) lines.push('', ...message.split('\n').map((line) => (line === '' ? '' : `    ${line}`)), '')
  }
  return lines
}

function forPrograms({ version, series, base, patches, states }: Row): object {
  const entry = ({ name, subject, message, forwarded, appliedUpstream }: Patch, i: number) => ({
    name,
    subject,
    message,
    forwarded,
    appliedUpstream,
    ...(states ? { state: states[i] } : {}),
  })
  return { version, series, base, patches: patches.map(entry) }
}
