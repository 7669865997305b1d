// SPDX-License-Identifier: MIT

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { access } from 'node:fs/promises'
import { constants } from 'node:os'
import { fileURLToPath } from 'node:url'
import { display } from '../bytes.js'
import { LowerwatchError } from '../errors.js'
import { boot, requireBootable } from './boot.js'
import { type Build, buildKernel } from './build.js'
import { cacheRoot } from './cache.js'
import type { DebugVariant, Target } from './configs.js'
import { fetchSource } from './fetch.js'
import { inspectAll, type PatchStatus, type SeriesStatus } from './inspect.js'
import { secureCache } from './module/secure.js'
import { describeStatus, summarize } from './report.js'
import { choosePatches, type SeriesChoice } from './select.js'
import { type Patch, versions } from './series.js'
import { requireTools } from './tools.js'
import { requireWhole, restore } from './transaction.js'
import { openTree } from './tree.js'
import { isCode, Workspace } from './workspace.js'

/** Results go to standard output, everything about the way to them to standard error. */
const say = (line: string) => void process.stdout.write(`${line}\n`)
const note = (line: string) => void process.stderr.write(`${line}\n`)

interface BuildOptions {
  tree?: string
  version?: string
  target: Target
  debug?: DebugVariant
  series: SeriesChoice
  stock?: boolean
  json?: boolean
}

export async function fetch(version: string): Promise<void> {
  const source = await fetchSource(version, note)
  say(source.tree)
}

interface ApplyOptions {
  tree?: string
  series: SeriesChoice
  dryRun?: boolean
  reverse?: boolean
  json?: boolean
}

const names = (patches: Patch[]) => new Set(patches.map((patch) => patch.series))

export async function apply(options: ApplyOptions): Promise<void> {
  const tree = await openTree(options.tree ?? '.')
  if (options.dryRun) await requireWhole(tree.root)
  else {
    const files = await restore(tree.root)
    if (files > 0) note(`an earlier run was killed half way: took back what it had begun, ${files} files`)
  }
  const patches = await choosePatches(tree.release, options.series)
  const others = (await choosePatches(tree.release, 'all')).filter((p) => !names(patches).has(p.series))
  const found = await inspectAll(new Workspace(tree.root), patches, others)
  const blocked = found.patches.filter(({ state }) => state === 'conflict' || state === 'partial')
  const stuck = options.reverse ? cannotBeTakenOut(found) : []
  const wanted = options.reverse
    ? [...found.removable]
    : found.patches.filter(({ state }) => state === 'applies')
  const target = options.reverse ? found.unpatched : found.patched
  const fits = blocked.length + stuck.length === 0
  if (fits && !options.dryRun) await target.commit()
  report(found.patches, options)
  if (!fits) process.exitCode = 1
  if (options.json) return
  for (const { name } of stuck) say(`${name}: cannot be taken out, what is in the tree builds on it`)
  if (!fits) {
    say(`nothing changed: ${blocked.length + stuck.length} of ${patches.length} patches do not fit`)
    return
  }
  const verb = options.reverse ? 'taken out' : 'applied'
  say(
    `${wanted.length} patches ${options.dryRun ? `would be ${verb}` : verb}, ${tree.root} is Linux ${tree.release}`,
  )
  const stays = options.reverse ? found.needed.length : 0
  if (stays > 0) say(`${stays} left in, for another series that is in the tree`)
}

function cannotBeTakenOut({ patches, removable, needed }: SeriesStatus & { needed: Patch[] }): Patch[] {
  const applied = patches.filter(({ state }) => state === 'applied').map(({ patch }) => patch)
  return applied.filter((patch) => !removable.has(patch) && !needed.includes(patch))
}

export async function status(options: ApplyOptions): Promise<void> {
  const tree = await openTree(options.tree ?? '.')
  await requireWhole(tree.root)
  const { patches } = await inspectAll(
    new Workspace(tree.root),
    await choosePatches(tree.release, options.series),
  )
  report(patches, options)
  if (!options.json) say(`Linux ${tree.release}: ${summarize(patches)}`)
  if (patches.some(({ state }) => state !== 'applied')) process.exitCode = 1
}

function report(patches: PatchStatus[], options: { json?: boolean }): void {
  if (options.json) {
    const rows = patches.map(({ patch, state, conflicts }) => ({
      series: patch.series,
      name: patch.name,
      subject: patch.subject,
      state,
      conflicts: conflicts.map((conflict) => ({ ...conflict, file: display(conflict.file) })),
    }))
    say(JSON.stringify({ patches: rows }, null, 2))
    return
  }
  for (const line of patches.flatMap(describeStatus)) say(line)
}

export async function build(options: BuildOptions): Promise<void> {
  const done = await obtainBuild(options)
  if (options.json) say(JSON.stringify(done, null, 2))
  else say(done.kernel)
}

/** The build that the options ask for, from the cache where it is there. */
export async function obtainBuild(options: BuildOptions): Promise<Build> {
  await secureCache(cacheRoot())
  await requireTools('make', 'gcc', 'flex', 'bison', 'bc', 'tar', 'cp')
  let root = options.tree
  let identity: string | null = null
  if (root === undefined) {
    const version = options.version ?? (await versions()).at(-1)!
    const source = await fetchSource(version, note)
    root = source.tree
    identity = source.identity
  }
  const tree = await openTree(root)
  if (options.tree !== undefined) await requireWhole(root)
  if (options.version !== undefined && tree.version !== options.version)
    throw new LowerwatchError('USAGE', `${root} is Linux ${tree.release}, not ${options.version}`)
  const patches = options.stock ? [] : await choosePatches(tree.release, options.series)
  const { target } = options
  return buildKernel({ tree, identity, target, debug: options.debug ?? null, patches }, process.stderr)
}

export async function bootCommand(
  argv: string[],
  options: BuildOptions & { memory: string; append: string[] },
): Promise<void> {
  await requireBootable()
  const built = await obtainBuild(options)
  const abort = new AbortController()
  let ended: NodeJS.Signals | null = null
  const end = (signal: NodeJS.Signals) => {
    ended = signal
    abort.abort()
  }
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, end)
  try {
    const { memory, append } = options
    const { stdout, stderr } = process
    const result = await boot({ build: built, argv, memory, append, stdout, stderr, signal: abort.signal })
    for (const splat of result.splats) note(`kernel: ${splat}`)
    process.exitCode = result.status
  } catch (error) {
    // A reader that went away ends other programs by SIGPIPE.
    if (ended === null && !isCode(error, 'EPIPE')) throw error
    process.exitCode = constants.signals[ended ?? 'SIGPIPE'] + 128
  } finally {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.removeListener(signal, end)
  }
}

export async function test(args: string[]): Promise<void> {
  const script = fileURLToPath(new URL('../../scripts/test-kernel', import.meta.url))
  try {
    await access(script)
  } catch (error) {
    throw new LowerwatchError('USAGE', 'the tests are not part of the installed package', {
      hint: 'run this in a checkout of the project',
      cause: error,
    })
  }
  const child = spawn(script, args, { stdio: 'inherit' })
  const [code] = (await once(child, 'exit')) as [number | null]
  process.exitCode = code ?? 2
}
