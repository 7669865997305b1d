// SPDX-License-Identifier: MIT

import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { dirname } from 'node:path'
import { withLock } from './lock.js'
import { isCode } from './workspace.js'

/**
 * Where sources and builds are kept: `$XDG_CACHE_HOME/lowerwatch/kernel`.
 *
 * - `apt/`: the private state of apt
 * - `src/<package version>/`: an unpacked source, with `src/<package version>.json` beside it once it is complete
 * - `part/<version>-<package version>/`, `headers/<release>/`: a part of a source, and headers, likewise
 * - `build/<version>-<stock|patched>-<key>/`: a built tree, with a `.json` beside it once it is complete, whose time is that
 *   of the last use: see prune.ts
 * - `boot/`: what a booted kernel starts with, a directory for each boot in progress with a `.lock` beside it
 */
export function cacheRoot(env: NodeJS.ProcessEnv = process.env): string {
  const given = env.XDG_CACHE_HOME
  // The XDG Base Directory Specification: one that is relative is not to be used.
  const base = given?.startsWith('/') ? given : `${env.HOME || homedir()}/.cache`
  return `${base}/lowerwatch/kernel`
}

/** Reads what was recorded beside a complete entry; null when it is not complete. */
export async function readRecord<T>(entry: string): Promise<T | null> {
  try {
    return JSON.parse(await readFile(`${entry}.json`, 'utf8')) as T
  } catch (error) {
    if (isCode(error, 'ENOENT') || error instanceof SyntaxError) return null
    throw error
  }
}

/** The record of an entry that is a directory: without it there is nothing that is complete. */
export async function readEntry<T>(entry: string): Promise<T | null> {
  try {
    return (await stat(entry)).isDirectory() ? await readRecord<T>(entry) : null
  } catch (error) {
    if (isCode(error, 'ENOENT')) return null
    throw error
  }
}

/** Makes a directory an entry, in the place of the one that is there. At no moment is there a record of what is not there. */
export async function replaceEntry(entry: string, directory: string, record: object): Promise<void> {
  await rm(`${entry}.json`, { force: true })
  await rm(entry, { recursive: true, force: true })
  await rename(directory, entry)
  await writeRecord(entry, record)
}

/**
 * Runs `work` in a directory `NAME.new`, while no other process does. It is empty: what one that was killed left in it
 * is gone.
 *
 * @param waiting is called once when somebody else is at it
 */
export async function withWork<T>(
  name: string,
  waiting: () => void,
  work: (directory: string) => Promise<T>,
): Promise<T> {
  await ensureDirectory(dirname(name))
  return withLock(`${name}.lock`, waiting, async () => {
    const directory = `${name}.new`
    await rm(directory, { recursive: true, force: true })
    try {
      return await work(await ensureDirectory(directory))
    } finally {
      await rm(directory, { recursive: true, force: true })
    }
  })
}

/** Declares an entry complete. */
export async function writeRecord(entry: string, record: object): Promise<void> {
  await writeFile(`${entry}.json.new`, `${JSON.stringify(record, null, 2)}\n`)
  await rename(`${entry}.json.new`, `${entry}.json`)
}

/** Complete entries of a folder, as absolute paths without `.json`. */
export async function listRecords(folder: string): Promise<string[]> {
  try {
    const names = await readdir(folder)
    return names.filter((name) => name.endsWith('.json')).map((name) => `${folder}/${name.slice(0, -5)}`)
  } catch (error) {
    if (isCode(error, 'ENOENT')) return []
    throw error
  }
}

export async function ensureDirectory(path: string): Promise<string> {
  await mkdir(path, { recursive: true })
  return path
}
