// SPDX-License-Identifier: MIT

import { createHash } from 'node:crypto'
import { createWriteStream } from 'node:fs'
import { chmod, lstat, rename, rm, writeFile } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import { finished } from 'node:stream/promises'
import { LowerwatchError } from '../errors.js'
import { cacheRoot, ensureDirectory, listRecords, readRecord, writeRecord } from './cache.js'
import { configText, type DebugVariant, notCompiled, type Target } from './configs.js'
import { judge } from './inspect.js'
import { withLock } from './lock.js'
import { plainOptions } from './module/environment.js'
import { stranger } from './module/secure.js'
import { Progress, type ProgressOutput } from './progress.js'
import { markUsed, prune } from './prune.js'
import { loadTestOnly, type Patch } from './series.js'
import { output } from './tools.js'
import { identifyTree, openTree, type Tree } from './tree.js'
import { isCode, Workspace } from './workspace.js'

/** What to build. `patches` empty means stock. */
export interface BuildRequest {
  tree: Tree
  /** What the tree is: the hash of its package; null for one of somebody's own, which he may edit meanwhile. */
  identity: string | null
  target: Target
  debug: DebugVariant | null
  patches: Patch[]
}

/** A finished build. */
export interface Build {
  version: string
  release: string
  /** The tree it was built in. */
  directory: string
  /** The kernel: an ordinary program. */
  kernel: string
  /** False when it was in the cache. */
  fresh: boolean
}

interface BuildRecord {
  kind: string
  release: string
  steps: number
  seconds: number
}

/** Steps of a first build and of one patched after, before any has been counted here. */
const guesses = { stock: 1300, patched: 60 }

/**
 * Builds a kernel, or finds it in the cache. Stock and patched builds of one source and configuration share the work: the
 * patched tree starts as a copy of the stock one with its objects, and make builds what the patches changed.
 *
 * @throws LowerwatchError KERNEL when a patch does not apply or make fails
 */
export async function buildKernel(
  request: BuildRequest,
  progress: ProgressOutput,
  root = cacheRoot(),
): Promise<Build> {
  const config = await configText(request.target, request.tree.version, request.debug)
  const testOnly = await loadTestOnly(request.tree.version)
  const compiler = await output('gcc', ['-dumpfullversion'], plainOptions())
  const identity = request.identity ?? (await identifyTree(request.tree.root))
  const name = [request.tree.version, request.target, request.debug ?? []].flat().join('-')
  await ensureDirectory(`${root}/build`)
  const stockKey = key([identity, config, compiler, ...notCompiled, ...testOnly.map((p) => p.text)])
  const stock = await finish(
    {
      request,
      config,
      entry: `${root}/build/${name}-stock-${stockKey}`,
      kind: `${name}-stock`,
      root,
      progress,
    },
    (directory) => prepareStock(request, identity, testOnly, directory),
  )
  if (request.patches.length === 0) return stock
  const patchedKey = key([stockKey, ...request.patches.map((p) => p.text)])
  return finish(
    {
      request,
      config,
      entry: `${root}/build/${name}-patched-${patchedKey}`,
      kind: `${name}-patched`,
      root,
      progress,
    },
    (directory) => preparePatched(stock, request.patches, directory),
  )
}

interface Job {
  request: BuildRequest
  config: string
  entry: string
  /** Builds of one kind take about the same number of steps. */
  kind: string
  root: string
  progress: ProgressOutput
}

/** From whatever is there of an entry to a finished build. An interrupted make goes on where it was. */
async function finish(job: Job, prepare: (directory: string) => Promise<void>): Promise<Build> {
  const done = await known(job.entry)
  if (done) return result(job, done, false)
  const waiting = () => void job.progress.write(`another process builds ${job.kind}, waiting\n`)
  const build = await withLock(`${job.entry}.lock`, waiting, async () => {
    const meanwhile = await known(job.entry)
    if (meanwhile) return result(job, meanwhile, false)
    // Of a kernel that is gone: others would take the one that make has not finished for it.
    await rm(`${job.entry}.json`, { force: true })
    const ready = (await isOwn(job.entry)) && (await readRecord<object>(`${job.entry}.prepared`))
    if (!ready) {
      job.progress.write(`${job.kind}: copying the source\n`)
      await rm(`${job.entry}.prepared.json`, { force: true })
      await rm(job.entry, { recursive: true, force: true })
      await prepare(`${job.entry}.new`)
      await rename(`${job.entry}.new`, job.entry)
      await writeRecord(`${job.entry}.prepared`, {})
    }
    const record = await make(job)
    // What an interrupted build had left says nothing about the next one.
    if (ready) record.steps = 0
    await writeRecord(job.entry, record)
    return result(job, record, true)
  })
  if (build.fresh)
    for (const name of await prune(`${job.root}/build`, job.kind))
      job.progress.write(`${name}: not used for a day, removed from the cache\n`)
  return build
}

async function known(entry: string): Promise<BuildRecord | null> {
  if (!(await markUsed(entry)) || !(await isOwn(entry)) || !(await statOf(kernelIn(entry)))?.isFile())
    return null
  return readRecord<BuildRecord>(entry)
}

/** Whether a tree is there, and nobody else can change it: earlier copies belonged to the one whose source it was. */
async function isOwn(entry: string): Promise<boolean> {
  const stat = await statOf(entry)
  return stat?.isDirectory() === true && stranger(stat) === null
}

async function statOf(path: string) {
  try {
    return await lstat(path)
  } catch (error) {
    if (isCode(error, 'ENOENT')) return null
    throw error
  }
}

const kernelIn = (entry: string) => `${entry}/linux`

function result(job: Job, record: BuildRecord, fresh: boolean): Build {
  const { version } = job.request.tree
  return { version, release: record.release, directory: job.entry, kernel: kernelIn(job.entry), fresh }
}

async function prepareStock(
  { tree, identity: ofPackage }: BuildRequest,
  identity: string,
  testOnly: Patch[],
  directory: string,
): Promise<void> {
  await rm(directory, { recursive: true, force: true })
  await ensureDirectory(directory)
  const { execa } = await import('execa')
  const excludes = notCompiled.map((pattern) => `--exclude=${pattern}`)
  await execa(
    'tar',
    ['-C', tree.root, '--wildcards', '--wildcards-match-slash', ...excludes, '-cf', '-', '.'],
    { ...plainOptions(), buffer: false },
    // As root tar would keep owners and modes.
  ).pipe('tar', ['-C', directory, '--no-same-owner', '--no-same-permissions', '-xf', '-'], plainOptions())
  await chmod(directory, 0o755)
  // It would be kept under the name of what was there before.
  if (ofPackage === null && (await identifyTree(tree.root)) !== identity)
    throw new LowerwatchError('KERNEL', `${tree.root} was changed while it was copied`, {
      hint: 'run this again',
    })
  await applyAll(directory, testOnly)
}

async function preparePatched(stock: Build, patches: Patch[], directory: string): Promise<void> {
  await rm(directory, { recursive: true, force: true })
  // -a keeps modification times, so make finds the objects up to date; reflink costs nothing where there is one.
  await output('cp', ['-a', '--reflink=auto', stock.directory, directory], plainOptions())
  await applyAll(directory, patches)
}

async function applyAll(directory: string, patches: Patch[]): Promise<void> {
  const workspace = new Workspace(directory)
  for (const patch of patches) {
    // A patch that several series need is in once.
    const { state, conflicts } = await judge(workspace, patch)
    if (state === 'applies' || state === 'applied') continue
    const [conflict] = conflicts
    throw new LowerwatchError('KERNEL', `${patch.name} does not apply`, {
      hint: conflict
        ? `${conflict.file}, hunk ${conflict.hunk}: ${conflict.why}`
        : 'a part of it is there already',
    })
  }
  await workspace.commit()
}

async function make(job: Job): Promise<BuildRecord> {
  const startedAt = Date.now()
  const cwd = job.entry
  const options = { cwd, ...plainOptions({ KCONFIG_ALLCONFIG: `${cwd}.config`, ARCH: 'um' }) }
  await writeFile(`${cwd}.config`, job.config)
  await output('make', ['-s', 'allnoconfig'], options)
  const progress = new Progress(`building ${job.kind}`, await expectedSteps(job), job.progress)
  const { execa } = await import('execa')
  const log = createWriteStream(`${cwd}.log`)
  const goals = job.request.debug === 'modules' ? ['linux', 'modules'] : ['linux']
  const child = execa('make', [`-j${availableParallelism()}`, ...goals], {
    ...options,
    stdin: 'ignore',
    all: true,
    buffer: false,
    reject: false,
    // A process group of its own: make leaves its children running when only it is ended, and they would go on
    // writing into a tree that the next build takes up.
    detached: true,
  })
  const release = endWith(child.pid)
  let lastError = ''
  try {
    for await (const line of child.iterable({ from: 'all' })) {
      log.write(`${line}\n`)
      if (/^ {2}[A-Z]/.test(line)) progress.step()
      if (/\berror\b/i.test(line) && lastError === '') lastError = line
    }
  } finally {
    log.end()
    await finished(log)
  }
  const end = await child
  release()
  if (end.failed) throw new LowerwatchError('KERNEL', `make failed: ${lastError}`, { hint: `see ${cwd}.log` })
  if (!(await statOf(kernelIn(cwd)))?.isFile())
    throw new LowerwatchError('KERNEL', 'make ended well and made no kernel', { hint: `see ${cwd}.log` })
  progress.finish()
  const tree = await openTree(cwd)
  return {
    kind: job.kind,
    release: tree.release,
    steps: progress.steps,
    seconds: (Date.now() - startedAt) / 1000,
  }
}

/**
 * Passes a signal to a process group, which make uses to remove half-written files. `release` gives the signal back to
 * this process when the group has ended.
 */
function endWith(group: number | undefined): () => void {
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const
  let received: NodeJS.Signals | null = null
  const end = (signal: NodeJS.Signals) => {
    received = signal
    if (group !== undefined) process.kill(-group, 'SIGTERM')
  }
  for (const signal of signals) process.on(signal, end)
  return () => {
    for (const signal of signals) process.removeListener(signal, end)
    if (received !== null) process.kill(process.pid, received)
  }
}

/** What the last build of this kind took. */
async function expectedSteps(job: Job): Promise<number> {
  for (const entry of await listRecords(`${job.root}/build`)) {
    const record = await readRecord<BuildRecord>(entry)
    if (record?.kind === job.kind && record.steps > 0) return record.steps
  }
  return job.kind.endsWith('-stock') ? guesses.stock : guesses.patched
}

function key(parts: string[]): string {
  const hash = createHash('sha256')
  for (const part of parts) hash.update(`${part.length}\n${part}`)
  return hash.digest('hex').slice(0, 12)
}
