// SPDX-License-Identifier: MIT

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { rm, statfs, writeFile } from 'node:fs/promises'
import type { Readable, Writable } from 'node:stream'
import { LowerwatchError } from '../errors.js'
import type { Build } from './build.js'
import { cacheRoot, ensureDirectory } from './cache.js'
import { initScript, parseResult } from './init-script.js'
import { compareVersions } from './series.js'
import { requireRoot, requireTools } from './tools.js'

/** One command in one kernel. */
export interface BootRequest {
  build: Build
  argv: string[]
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
 * runs the command in it and ends it.
 *
 * The kernel has a session of its own and no terminal, so that none can be left broken.
 *
 * @throws LowerwatchError KERNEL when the kernel ended without the command's exit status (a panic: its last messages are
 *   in the error), or was ended through the signal
 */
export async function boot(request: BootRequest, root = cacheRoot()): Promise<BootResult> {
  requireRoot('booting a kernel on this root')
  await requireTools('halt', 'setpriv')
  const init = `${await ensureDirectory(`${root}/boot`)}/init-${process.pid}-${Math.random().toString(36).slice(2)}`
  const argv = request.argv
  const env = { ...inherited(), ...request.env }
  const cwd = request.cwd ?? process.cwd()
  await writeFile(init, initScript({ argv, cwd, env, keep: [cwd, root] }), { mode: 0o700 })
  try {
    request.signal?.throwIfAborted()
    // The kernel has a session of its own: without this it would outlive a caller that is killed.
    const deathSignal = ['--pdeathsig', 'KILL', '--', request.build.kernel]
    const child = spawn('setpriv', [...deathSignal, ...kernelArguments(request, init)], {
      stdio: ['ignore', 'pipe', 'pipe', 'pipe', 'pipe', 'pipe'],
      detached: true,
      env: { ...process.env, ...hostWorkarounds(request.build.version), TMPDIR: await memoryDirectory() },
    })
    return await follow(child, request)
  } finally {
    await rm(init, { force: true })
  }
}

function kernelArguments(request: BootRequest, init: string): string[] {
  const major = Number(request.build.version.split('.')[0])
  return [
    `mem=${request.memory ?? '2G'}`,
    'root=/dev/root',
    'rootfstype=hostfs',
    'rootflags=/',
    'rw',
    `init=${init}`,
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

async function follow(child: ChildProcess, request: BootRequest): Promise<BootResult> {
  const kill = () => killGroup(child)
  request.signal?.addEventListener('abort', kill)
  try {
    const [, console1, console2, stdout, stderr, result] = child.stdio as [null, ...Readable[]]
    const kernelSays = Promise.all([collect(console1!), collect(console2!)])
    const passing = Promise.all([pass(stdout!, request.stdout), pass(stderr!, request.stderr)])
    const said = collect(result!)
    await once(child, 'exit')
    // Processes of the guest are children of the kernel and hold the pipes open.
    kill()
    await passing
    const end = parseResult(await said)
    if (end) return end
    if (request.signal?.aborted) throw new LowerwatchError('KERNEL', 'the kernel was ended')
    const messages = (await kernelSays).join('').trim().split('\n').slice(-40).join('\n')
    throw new LowerwatchError('KERNEL', `the kernel ended before the command did\n${messages}`)
  } finally {
    request.signal?.removeEventListener('abort', kill)
    kill()
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

async function pass(from: Readable, to: Writable): Promise<void> {
  for await (const chunk of from) if (!to.write(chunk)) await once(to, 'drain')
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
