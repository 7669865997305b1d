// SPDX-License-Identifier: MIT

import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { PassThrough } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { boot } from '../../src/kernel/boot.js'
import type { Build } from '../../src/kernel/build.js'
import { cacheRoot } from '../../src/kernel/cache.js'
import { obtainBuild } from '../../src/kernel/commands.js'
import type { DebugVariant } from '../../src/kernel/configs.js'
import type { SeriesChoice } from '../../src/kernel/select.js'
import { loadFolders, type SeriesName, versions } from '../../src/kernel/series.js'

/** Set by `scripts/test-kernel --debug VARIANT`. */
export const debug = (process.env.LOWERWATCH_KERNEL_DEBUG || undefined) as DebugVariant | undefined

/**
 * Words for the kernel command line where what counts is what a kernel does and not when: each mount and unmount waits for
 * grace periods of RCU, which took half of the time of the rows on two processors. Races, and kernels that check themselves,
 * have them as they are by default.
 */
export const quick = debug === undefined ? ['rcupdate.rcu_expedited=1'] : []

/** Versions that have a series, of those that `scripts/test-kernel --version` asks for. */
export async function versionsWith(series: SeriesName): Promise<string[]> {
  const asked = (process.env.LOWERWATCH_KERNEL_VERSIONS ?? '').split(' ').filter((version) => version !== '')
  const found: string[] = []
  for (const version of await versions()) {
    if (asked.length > 0 && !asked.includes(version)) continue
    if ((await loadFolders(version)).some((folder) => folder.series === series)) found.push(version)
  }
  return found
}

/** A kernel of one version, from the cache: `scripts/test-kernel` has built it. */
export function kernelFor(
  version: string,
  kind: 'stock' | 'patched',
  series: SeriesChoice = 'all',
): Promise<Build> {
  return obtainBuild({
    version,
    target: 'uml',
    series,
    stock: kind === 'stock',
    ...(debug === undefined ? {} : { debug }),
  })
}

/** What a command did in a kernel. */
export interface GuestRun {
  status: number
  splats: string[]
  stdout: string
  stderr: string
}

/** Runs one command in a kernel and collects what it says. */
export async function guest(
  build: Build,
  argv: string[],
  append: string[] = [],
  env: Record<string, string> = {},
): Promise<GuestRun> {
  const stdout = new PassThrough()
  const stderr = new PassThrough()
  const texts = Promise.all([text(stdout), text(stderr)])
  const result = await boot({ build, argv, append, env, stdout, stderr }).finally(() => {
    stdout.end()
    stderr.end()
  })
  const [out, err] = await texts
  return { ...result, stdout: out, stderr: err }
}

async function text(stream: PassThrough): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of stream) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks).toString('latin1')
}

/** A directory that a guest sees: /tmp of the host is hidden there. */
export async function sharedDirectory(): Promise<AsyncDisposable & { path: string }> {
  const parent = join(cacheRoot(), 'test')
  await mkdir(parent, { recursive: true })
  const path = await mkdtemp(join(parent, 'run-'))
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) }
}

/** Compiles a C program beside the tests, or one named by an absolute path, and gives the program's path. */
export async function compile(source: string, directory: string, flags: string[] = []): Promise<string> {
  const file = source.startsWith('/') ? source : join(dirname(fileURLToPath(import.meta.url)), source)
  const program = join(directory, source.split('/').at(-1)!.replace(/\.c$/, ''))
  await promisify(execFile)('gcc', ['-O1', '-Wall', '-Werror', ...flags, '-o', program, file])
  return program
}
