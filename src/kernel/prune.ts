// SPDX-License-Identifier: MIT

import { readdir, rename, rm, stat, utimes } from 'node:fs/promises'
import { withLock } from './lock.js'
import { isCode } from './workspace.js'

/** So many builds of a kind stay, those that were used last: what a branch and the one before it need. */
const kept = 3
/** In milliseconds. What was used within it may be in use. */
const aDay = 24 * 3600 * 1000

/** Tells {@link prune} that an entry of the cache is in use. False when the entry is not complete. */
export async function markUsed(entry: string): Promise<boolean> {
  const now = new Date()
  try {
    await utimes(`${entry}.json`, now, now)
    return true
  } catch (error) {
    if (isCode(error, 'ENOENT')) return false
    // Nor is it removed from a cache that is only read.
    if (isCode(error, 'EROFS', 'EPERM', 'EACCES')) return true
    throw error
  }
}

/**
 * Removes builds of a kind that were not used for a day, but for the three that were used last. Half a gigabyte each, and
 * every change of a series makes another one.
 *
 * @param kind what the names of entries in `folder` begin with, before the hash
 * @returns the names that were removed
 */
export async function prune(folder: string, kind: string): Promise<string[]> {
  const before = Date.now() - aDay
  const entries = await lastUses(folder, kind)
  const old = [...entries].sort(([, a], [, b]) => b - a).slice(kept)
  const removed: string[] = []
  for (const [name, used] of old) {
    if (used > before) continue
    const entry = `${folder}/${name}`
    await withLock(
      `${entry}.lock`,
      () => {},
      async () => {
        if (!(await withdraw(entry, before))) return
        for (const end of ['.prepared.json', '.new', '', '.config', '.log', '.json.pruned'])
          await rm(`${entry}${end}`, { recursive: true, force: true })
        removed.push(name)
      },
    )
  }
  return removed
}

/** When each entry was used last, in milliseconds: finished, interrupted and half-removed ones. */
async function lastUses(folder: string, kind: string): Promise<Map<string, number>> {
  const entries = new Map<string, number>()
  for (const file of await readdir(folder)) {
    const key = file.startsWith(`${kind}-`) ? /^[0-9a-f]{12}(?=$|\.)/.exec(file.slice(kind.length + 1)) : null
    if (key === null || file.endsWith('.lock')) continue
    const name = `${kind}-${key[0]}`
    entries.set(name, Math.max(entries.get(name) ?? 0, await modified(`${folder}/${file}`)))
  }
  return entries
}

/** False when somebody began to use it meanwhile: what {@link markUsed} marked before it was taken away is seen here. */
async function withdraw(entry: string, before: number): Promise<boolean> {
  try {
    await rename(`${entry}.json`, `${entry}.json.pruned`)
  } catch (error) {
    if (isCode(error, 'ENOENT')) return true
    throw error
  }
  if ((await modified(`${entry}.json.pruned`)) <= before) return true
  await rename(`${entry}.json.pruned`, `${entry}.json`)
  return false
}

async function modified(path: string): Promise<number> {
  try {
    return (await stat(path)).mtimeMs
  } catch (error) {
    if (isCode(error, 'ENOENT')) return 0
    throw error
  }
}
