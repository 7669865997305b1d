// SPDX-License-Identifier: MIT

/** A cgroup2 subtree of the probe's own, and what happens in it. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import { basename, dirname } from 'node:path'
import { probePrefix } from './plan.js'
import { type Context, Skip } from './types.js'

/** Makes the cgroup, or says why it cannot. */
export function makeCgroup(name: string): { path: string } | { reason: string } {
  const line = readFileSync('/proc/self/mountinfo', 'latin1')
    .split('\n')
    .find((entry) => entry.includes(' - cgroup2 '))
  if (line === undefined) return { reason: 'no cgroup2 is mounted' }
  const path = `${unescapePath(line.split(' ')[4]!)}/${name}`
  try {
    mkdirSync(path)
    return { path }
  } catch (error) {
    return { reason: `no cgroup can be made: ${(error as NodeJS.ErrnoException).code}` }
  }
}

/** The mount table writes spaces as `\040`. */
export function unescapePath(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)))
}

/** Kills what runs in a cgroup and removes it with everything below. It may be gone already. */
export async function removeCgroup(path: string): Promise<void> {
  killIn(path)
  const deadline = performance.now() + 5_000
  for (;;) {
    try {
      removeTree(path)
      return
    } catch (error) {
      if (isCode(error, 'ENOENT')) return
      // A killed process is in its cgroup until it is gone.
      if (!isCode(error, 'EBUSY') || performance.now() > deadline) throw error
      killIn(path)
      await new Promise((resolve) => setImmediate(resolve))
    }
  }
}

function killIn(path: string): void {
  try {
    // Not to be made: cgroup2 answers EACCES to O_CREAT where there is no such file.
    writeFileSync(`${path}/cgroup.kill`, '1', { flag: 'r+' })
  } catch (error) {
    if (!isCode(error, 'ENOENT')) throw error
    try {
      killEach(path)
    } catch (other) {
      // Gone meanwhile: ENODEV is what its open files say.
      if (!isCode(other, 'ENOENT', 'ENODEV')) throw other
    }
  }
}

/** Before Linux 5.14 there is no cgroup.kill. What is forked meanwhile makes the removal EBUSY, and is next. */
function killEach(path: string): void {
  if (!existsSync(path)) return
  for (const entry of readdirSync(path, { withFileTypes: true }))
    if (entry.isDirectory()) killEach(`${path}/${entry.name}`)
  if (!existsSync(`${path}/cgroup.procs`)) return
  // 0 is a process of a PID namespace that is not seen from here: to kill(2) it would be this one's own group.
  for (const pid of words(`${path}/cgroup.procs`)
    .map(Number)
    .filter((id) => id > 0)) {
    try {
      process.kill(pid, 'SIGKILL')
    } catch (error) {
      if (!isCode(error, 'ESRCH')) throw error
    }
  }
}

function removeTree(path: string): void {
  for (const entry of readdirSync(path, { withFileTypes: true }))
    if (entry.isDirectory()) removeTree(`${path}/${entry.name}`)
  rmdirSync(path)
}

export function isCode(error: unknown, ...codes: string[]): boolean {
  return codes.includes(String((error as NodeJS.ErrnoException).code))
}

/** A new cgroup below the probe's own; skips where there is none. */
export function childCgroup(context: Context, name = context.name('c')): string {
  if ('reason' in context.cgroup) throw new Skip(context.cgroup.reason)
  const path = `${context.cgroup.path}/${name}`
  mkdirSync(path)
  context.defer(() => removeCgroup(path))
  return path
}

/** A process that does nothing, in a cgroup. `end` returns when it is gone. */
export function idleProcess(context: Context): { pid: number; end(): Promise<void> } {
  const child: ChildProcess = spawn('sleep', ['600'], { stdio: 'ignore' })
  const exited = once(child, 'exit')
  const end = async () => {
    child.kill('SIGKILL')
    await exited
  }
  context.defer(end)
  return { pid: child.pid!, end }
}

/**
 * A controller that can be switched on in children of the probe's own cgroup. When nobody uses controllers beside the
 * probe it asks the parent for one, and gives it back.
 */
export function someController(context: Context): string {
  if ('reason' in context.cgroup) throw new Skip(context.cgroup.reason)
  const { path } = context.cgroup
  const order = ['pids', 'memory', 'hugetlb', 'misc', 'io', 'cpu', 'cpuset']
  const pick = (available: string[]) => order.find((name) => available.includes(name)) ?? available[0]
  const own = pick(words(`${path}/cgroup.controllers`))
  if (own !== undefined) return own
  const parent = dirname(path)
  const offered = pick(words(`${parent}/cgroup.controllers`))
  if (offered === undefined) throw new Skip('no controller is on this hierarchy')
  if (children(parent).some((name) => !name.startsWith(probePrefix)))
    throw new Skip(`${parent} hands no controller down, and others use it`)
  try {
    context.remember(`controller ${offered} ${parent}`)
    writeFileSync(`${parent}/cgroup.subtree_control`, `+${offered}`)
  } catch (error) {
    throw new Skip(`${offered} cannot be had from ${parent}: ${(error as NodeJS.ErrnoException).code}`)
  }
  context.defer(() => giveBack(offered, parent, basename(path)))
  return offered
}

/**
 * A cgroup that came meanwhile, another probe's too, would lose the controller's files: then it is left as it is.
 *
 * @param own name of the cgroup that does not count
 * @throws Error that says so
 */
export function giveBack(controller: string, cgroup: string, own = ''): void {
  const kept = (why: string) => new Error(`${cgroup} still hands ${controller} down: ${why}`)
  try {
    const others = children(cgroup).filter((name) => name !== own)
    if (others.length > 0) throw kept(`${others.join(', ')} came meanwhile`)
    writeFileSync(`${cgroup}/cgroup.subtree_control`, `-${controller}`)
  } catch (error) {
    if (isCode(error, 'ENOENT')) return
    // A child came after the look, and hands it down itself.
    if (isCode(error, 'EBUSY')) throw kept('it is in use')
    throw error
  }
}

function children(cgroup: string): string[] {
  const entries = readdirSync(cgroup, { withFileTypes: true })
  return entries.filter((entry) => entry.isDirectory()).map(({ name }) => name)
}

function words(file: string): string[] {
  return readFileSync(file, 'latin1').split(/\s+/).filter(Boolean)
}
