// SPDX-License-Identifier: MIT
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Build } from '../../src/kernel/build.js'
import type { SeriesChoice } from '../../src/kernel/select.js'
import { debug, type GuestRun, guest, kernelFor } from './guest.js'

const here = dirname(fileURLToPath(import.meta.url))

/** What `lower_changes` may be, besides off. */
export const modes = ['reval', 'notify', 'manual'] as const

/** A program beside the tests. */
export const python = (script: string, ...given: (string | number)[]) => [
  'python3',
  '-B',
  join(here, script),
  ...given.map(String),
]

/** Runs a command in a kernel that has overlayfs: in one that has it as a module, this is loaded first. */
export async function run(
  version: string,
  kind: 'stock' | 'patched',
  argv: string[],
  append: string[] = [],
  env: Record<string, string> = {},
  series: SeriesChoice = 'all',
): Promise<GuestRun> {
  const build = await kernelFor(version, kind, series)
  const load = debug === 'modules' ? python('overlayfs_module.py', moduleOf(build), 'exec') : []
  return guest(build, [...load, ...argv], append, env)
}

export const moduleOf = (build: Build) => `${build.directory}/fs/overlayfs/overlay.ko`
