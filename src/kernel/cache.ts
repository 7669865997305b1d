// SPDX-License-Identifier: MIT

import { mkdir, readdir, readFile, rename, writeFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { isCode } from './workspace.js'

/**
 * Where sources and builds are kept: `$XDG_CACHE_HOME/lowerwatch/kernel`.
 *
 * - `apt/`: the private state of apt
 * - `src/<package version>/`: an unpacked source, with `src/<package version>.json` beside it once it is complete
 * - `build/<version>-<stock|patched>-<key>/`: a built tree, with a `.json` beside it once it is complete, whose time is that
 *   of the last use: see prune.ts
 * - `boot/`: the first process of booted kernels, one file for each boot in progress
 */
export function cacheRoot(env: NodeJS.ProcessEnv = process.env): string {
  const base = env.XDG_CACHE_HOME || `${env.HOME || homedir()}/.cache`
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
