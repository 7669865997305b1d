// SPDX-License-Identifier: MIT

import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdir, readdir, realpath, rm, statfs, writeFile } from 'node:fs/promises'
import { isAbsolute } from 'node:path'
import type { Readable, Writable } from 'node:stream'
import { fromText } from '../bytes.js'
import { LowerwatchError } from '../errors.js'
import type { Build } from './build.js'
import { cacheRoot, ensureDirectory } from './cache.js'
import { type GuestResult, initScript, isCovered, parseResult, untilMark } from './init-script.js'
import { withLock } from './lock.js'
import { compareVersions } from './series.js'
import { requireRoot, requireTools } from './tools.js'

/** One command in one kernel. */
export interface BootRequest {
  build: Build
  argv: string[]
  /** Where the command runs: not where the guest has a file system of its own, but for directories in /tmp and /run. */
  cwd?: string
  /** Added to the few variables that a command gets from here. */
  env?: Record<string, string>
  /** Memory of the machine. */
  memory?: string
  /** More words for the kernel's command line. */
  append?: string[]
  /** Where the command's output goes; it can be binary. */
  stdout: Writable
  stderr: Writable
  /** Ends the kernel at once. */
  signal?: AbortSignal
}

/** How it ended. */
export interface BootResult {
  /** Exit status of the command. */
  status: number
  /** Kernel messages that are alarms: warnings, lock order, use after free. */
  splats: string[]
}

const tmpfsMagic = 0x01021994
const passedOn = /^(PATH|HOME|USER|LANG|LC_\w+|CI|NODE_\w+|LOWERWATCH_\w+)$/

/**
 * Boots a user-mode kernel on the root of this machine (hostfs, writable: the command is root and changes real files),
 * runs the command in it and ends it, with every process that the command has left behind.
 *
 * The kernel has a session of its own and no terminal, so that none can be left broken.
 *
 * @throws LowerwatchError of {@link requireBootable}
 * @throws LowerwatchError KERNEL when the kernel ended without the command's exit status (a panic: its last messages are
 *   in the error), or was ended through the signal, or the command's directory was gone
 * @throws the error of an output that could not be written
 */
export async function boot(request: BootRequest, root = cacheRoot()): Promise<BootResult> {
  const cwd = await requireBootable(request.cwd, root)
  const boots = await ensureDirectory(`${root}/boot`)
  await sweep(boots)
  const own = `${boots}/${process.pid}-${randomBytes(6).toString('hex')}`
  return withLock(
    `${own}.lock`,
    () => {},
    async () => {
      try {
        await mkdir(own)
        return await run(request, { own, root, cwd })
      } finally {
        await rm(own, { recursive: true, force: true })
      }
    },
  )
}

/**
 * What can be said before a kernel is built.
 *
 * @returns the command's directory, without links
 * @throws LowerwatchError USAGE when the guest does not have this directory, or the kernel would start another program than
 *   what is below `root`
 */
export async function requireBootable(cwd = process.cwd(), root = cacheRoot()): Promise<string> {
  const hint = 'set XDG_CACHE_HOME to another place'
  if (!isAbsolute(root))
    throw new LowerwatchError('USAGE', `the cache ${root} is not an absolute path`, { hint })
  // The command line of a kernel is split there. For its isspace() the byte 0xa0 is white space too, and in UTF-8 that is
  // a part of à.
  if (/[\s"]/.test(fromText(root)))
    throw new LowerwatchError(
      'USAGE',
      `the kernel's command line cannot have the path of the cache ${root}`,
      { hint },
    )
  const real = await realpath(cwd)
  if (isCovered(real))
    throw new LowerwatchError('USAGE', `a booted kernel has a file system of its own on ${real}`, {
      hint: 'run this in another directory',
    })
  requireRoot('booting a kernel on this root')
  await requireTools('setpriv')
  return real
}

/** Removes what boots have left whose process was killed: nobody has their lock. */
export async function sweep(boots: string): Promise<void> {
  const inUse = new Error('in use')
  const skip = () => {
    throw inUse
  }
  for (const name of new Set((await readdir(boots)).map((file) => file.replace(/\.lock$/, '')))) {
    const remove = () => rm(`${boots}/${name}`, { recursive: true, force: true })
    try {
      await withLock(`${boots}/${name}.lock`, skip, remove)
    } catch (error) {
      if (error !== inUse) throw error
    }
  }
}

/** `own` is a directory that only this boot uses. */
async function run(
  request: BootRequest,
  { own, root, cwd }: { own: string; root: string; cwd: string },
): Promise<BootResult> {
  const { argv, build } = request
  const env = { ...inherited(), ...request.env }
  // It begins with what is rare in an output: a part of one that looks like its beginning is held back.
  const mark = `\x04${randomBytes(16).toString('hex')}`
  await writeFile(`${own}/init`, initScript({ argv, cwd, env, keep: [cwd, root], mark }), { mode: 0o700 })
  const memory = await memoryDirectory()
  request.signal?.throwIfAborted()
  // The kernel has a session of its own: without this it would outlive a caller that is killed.
  const deathSignal = ['--pdeathsig', 'KILL', '--', build.kernel]
  const child = spawn('setpriv', [...deathSignal, ...kernelArguments(request, own)], {
    stdio: ['ignore', 'pipe', 'pipe', 'pipe', 'pipe', 'pipe'],
    detached: true,
    env: { ...process.env, ...hostWorkarounds(build.version), TMPDIR: memory },
  })
  const { status, splats } = await follow(child, request, Buffer.from(mark))
  if (status === null)
    throw new LowerwatchError('KERNEL', `the command was not run: ${cwd} is not there any more`)
  return { status, splats }
}

function kernelArguments(request: BootRequest, own: string): string[] {
  const major = Number(request.build.version.split('.')[0])
  return [
    `mem=${request.memory ?? '2G'}`,
    'root=/dev/root',
    'rootfstype=hostfs',
    'rootflags=/',
    'rw',
    `init=${own}/init`,
    // A killed kernel leaves a directory there; by default it is ~/.uml.
    `uml_dir=${own}`,
    'con=null',
    'con0=null,fd:1',
    'ssl=null',
    'ssl0=null,fd:3',
    'ssl1=null,fd:4',
    'ssl2=null,fd:5',
    'quiet',
    // SMP came with 7.0 and needs the seccomp mode; before, these words are not known.
    ...(major >= 7 ? ['seccomp=on', 'ncpus=2'] : []),
    ...(request.append ?? []),
  ]
}

/**
 * Up to 6.12 a process of the guest starts as a fork of the kernel's own, with the restartable sequence that glibc has
 * registered (2.35). Its memory is gone then, and the host answers the first signal with SIGSEGV. 6.13 starts a program.
 */
function hostWorkarounds(version: string): Record<string, string> {
  return compareVersions(version, '6.13') < 0 ? { GLIBC_TUNABLES: 'glibc.pthread.rseq=0' } : {}
}

async function follow(child: ChildProcess, request: BootRequest, mark: Buffer): Promise<GuestResult> {
  const kill = () => killGroup(child)
  const exited = once(child, 'exit')
  request.signal?.addEventListener('abort', kill)
  try {
    const [, console1, console2, stdout, stderr, result] = child.stdio as [null, ...Readable[]]
    const kernelSays = Promise.all([collect(console1!), collect(console2!)])
    const told = Promise.all([
      resultOf(result!),
      pass(stdout!, request.stdout, mark),
      pass(stderr!, request.stderr, mark),
    ])
    // When the kernel ends by itself, processes of the guest are left, its children, and hold the pipes open.
    const [end] = await Promise.race([told, exited.then(kill).then(() => told)])
    if (end) return end
    if (request.signal?.aborted) throw new LowerwatchError('KERNEL', 'the kernel was ended')
    const messages = (await kernelSays).join('').trim().split('\n').slice(-40).join('\n')
    throw new LowerwatchError('KERNEL', `the kernel ended before the command did\n${messages}`)
  } finally {
    request.signal?.removeEventListener('abort', kill)
    kill()
    await exited
  }
}

function killGroup(child: ChildProcess): void {
  if (child.pid === undefined) return
  try {
    process.kill(-child.pid, 'SIGKILL')
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) throw error
  }
}

/** Passes on what comes before the mark. */
async function pass(from: Readable, to: Writable, mark: Buffer): Promise<void> {
  try {
    for await (const data of untilMark(from.iterator({ destroyOnReturn: false }), mark)) await write(to, data)
  } finally {
    // What comes after it is dropped: the pipe must not be closed or full as long as the kernel writes to it.
    from.resume()
  }
}

function write(to: Writable, data: Buffer): Promise<void> {
  return new Promise((resolve, reject) => {
    to.write(data, (error) => (error ? reject(error) : resolve()))
  })
}

/** Null when the stream ended before all of it had come. */
async function resultOf(from: Readable): Promise<GuestResult | null> {
  let text = ''
  for await (const chunk of from.setEncoding('utf8')) {
    text += chunk
    const result = parseResult(text)
    if (result) return result
  }
  return null
}

async function collect(from: Readable): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of from) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks).toString('utf8')
}

function inherited(): Record<string, string> {
  const env: Record<string, string> = {}
  for (const [name, value] of Object.entries(process.env))
    if (value !== undefined && passedOn.test(name)) env[name] = value
  return env
}

/** The kernel keeps its memory in a file there: on a disk it would be written out. */
async function memoryDirectory(): Promise<string> {
  for (const directory of ['/dev/shm', process.env.TMPDIR ?? '/tmp']) {
    try {
      if ((await statfs(directory)).type === tmpfsMagic) return directory
    } catch {
      // Not there: the next one.
    }
  }
  return '/tmp'
}
