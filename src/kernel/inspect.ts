// SPDX-License-Identifier: MIT

import { reverseDiff } from './diff.js'
import type { Patch, SeriesName } from './series.js'
import type { Conflict, Workspace } from './workspace.js'

/**
 * `applied`: in the tree. `applies`: absent, and would go in after those before it. `partial`: some of its hunks are in,
 * the others would go in. `conflict`: neither; `conflicts` says where.
 */
export type PatchState = 'applied' | 'applies' | 'partial' | 'conflict'

export interface PatchStatus {
  patch: Patch
  state: PatchState
  conflicts: Conflict[]
}

export interface SeriesStatus {
  patches: PatchStatus[]
  /** The tree with everything applied that applies. */
  patched: Workspace
  /** The tree without those of `removable`: what is applied and can be taken back, from the last patch to the first. */
  unpatched: Workspace
  removable: Set<Patch>
}

/**
 * What a tree has of a series. A later patch can change what an earlier one wrote, so the patches cannot be judged each
 * by itself: the longest run from the first on is looked for that can be taken back from its last to its first.
 */
export async function inspect(tree: Workspace, patches: Patch[]): Promise<SeriesStatus> {
  let applied = patches.length
  while (applied > 0 && !(await takeBack(tree, patches.slice(0, applied)))) applied--
  const patched = tree.fork()
  const result: PatchStatus[] = []
  for (const [index, patch] of patches.entries()) {
    if (index < applied) result.push({ patch, state: 'applied', conflicts: [] })
    else result.push(await judge(patched, patch))
  }
  return { patches: result, patched, ...(await withoutApplied(tree, result)) }
}

async function withoutApplied(
  tree: Workspace,
  statuses: PatchStatus[],
): Promise<Pick<SeriesStatus, 'unpatched' | 'removable'>> {
  const removable = new Set<Patch>()
  let unpatched = tree.fork()
  for (const { patch, state } of [...statuses].reverse()) {
    const without = state === 'applied' ? await takeBack(unpatched, [patch]) : null
    if (without === null) continue
    removable.add(patch)
    unpatched = without
  }
  return { unpatched, removable }
}

/**
 * The same for several series, each of which can be in without the others. They are judged one on top of the other, in
 * their order, and taken back in the opposite one.
 *
 * A patch that several series begin with, so that each is usable alone, is in the tree once. It goes in first and comes
 * out last, and stays while one of `others`, series that are not asked about, has the rest of itself in.
 */
export async function inspectAll(
  tree: Workspace,
  patches: Patch[],
  others: Patch[] = [],
): Promise<SeriesStatus & { needed: Patch[] }> {
  const shared = sharedPatches([...patches, ...others])
  const own = (list: Patch[]) => list.filter((patch) => !shared.has(diffText(patch)))
  const common = [...new Map(patches.map((patch) => [diffText(patch), patch]))].filter(([diff]) =>
    shared.has(diff),
  )
  const states = new Map<string, PatchStatus>()
  let patched = tree.fork()
  for (const [diff, patch] of common) states.set(diff, await judge(patched, patch))
  const groups = bySeries(own(patches))
  for (const group of groups) {
    const found = await inspect(patched, group)
    for (const status of found.patches) states.set(diffText(status.patch), status)
    patched = found.patched
  }
  let unpatched = tree
  const removable = new Set<string>()
  for (const group of groups.reverse()) {
    const found = await inspect(unpatched, group)
    unpatched = found.unpatched
    for (const patch of found.removable) removable.add(diffText(patch))
  }
  let needed = false
  for (const group of bySeries(own(others)))
    needed ||= (await inspect(tree, group)).patches.some(({ state }) => state === 'applied')
  for (const [diff, patch] of needed ? [] : common.reverse()) {
    const without = states.get(diff)!.state === 'applied' ? await takeBack(unpatched, [patch]) : null
    if (without === null) continue
    removable.add(diff)
    unpatched = without
  }
  return {
    patches: patches.map((patch) => ({ ...states.get(diffText(patch))!, patch })),
    patched,
    unpatched,
    removable: new Set(patches.filter((patch) => removable.has(diffText(patch)))),
    needed: needed ? patches.filter((patch) => shared.has(diffText(patch))) : [],
  }
}

function bySeries(patches: Patch[]): Patch[][] {
  const names = [...new Set(patches.map((patch) => patch.series))]
  return names.map((name) => patches.filter((patch) => patch.series === name))
}

/** What a patch changes, without its message and its number, and wherever its lines are in a file. */
function diffText(patch: Patch): string {
  return JSON.stringify(patch.diffs, (key, value) => (/^(old|new)Start$/.test(key) ? undefined : value))
}

/** The {@link diffText} of every patch that is in more than one series. */
function sharedPatches(patches: Patch[]): Set<string> {
  const seenIn = new Map<string, SeriesName>()
  const shared = new Set<string>()
  for (const patch of patches) {
    const diff = diffText(patch)
    const first = seenIn.get(diff)
    if (first === undefined) seenIn.set(diff, patch.series)
    else if (first !== patch.series) shared.add(diff)
  }
  return shared
}

/** The tree without these patches, or null when they are not all there in full. */
async function takeBack(tree: Workspace, patches: Patch[]): Promise<Workspace | null> {
  const without = tree.fork()
  for (const patch of [...patches].reverse()) {
    const conflicts = await without.apply(patch.diffs.map(reverseDiff).reverse())
    if (conflicts.length > 0) return null
  }
  return without
}

/**
 * Whether one patch is in, and if it is not, puts it in where it fits. What can be taken back is in: some hunks would go in
 * a second time.
 */
export async function judge(tree: Workspace, patch: Patch): Promise<PatchStatus> {
  if (await takeBack(tree, [patch])) return { patch, state: 'applied', conflicts: [] }
  const conflicts = await tree.apply(patch.diffs)
  if (conflicts.length === 0) return { patch, state: 'applies', conflicts }
  // Hunk by hunk: which are there already, which would go in?
  let present = 0
  const open: Conflict[] = []
  for (const diff of patch.diffs) {
    for (const hunk of diff.hunks) {
      const single = { ...diff, hunks: [hunk] }
      const backward = await tree.fork().apply([reverseDiff(single)])
      if (backward.length === 0) present++
      else open.push(...(await tree.fork().apply([single])))
    }
  }
  const total = patch.diffs.reduce((sum, diff) => sum + diff.hunks.length, 0)
  if (open.length > 0) return { patch, state: 'conflict', conflicts: open }
  if (present === total) return { patch, state: 'applied', conflicts: [] }
  return { patch, state: present > 0 ? 'partial' : 'conflict', conflicts }
}
