// SPDX-License-Identifier: MIT

/** Other views of the same hierarchy: a second mount, and one from within a cgroup namespace. */
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { lastLine } from './network.js'
import { type Context, Skip } from './types.js'

/** One superblock or one set of options for the whole machine: a mount without options takes them away from everybody. */
const shared = ['cgroup2', 'debugfs', 'tracefs']

/**
 * What a mount of `type` must be given so that it changes nothing for those that are there. cgroup2 takes the options of
 * every mount from the first cgroup namespace for the whole hierarchy (apply_cgroup_root_flags in kernel/cgroup/cgroup.c).
 *
 * @returns options of mount(8), never none
 */
export function mountOptions(
  type: string,
  given: string[] = [],
  table = readFileSync('/proc/self/mountinfo', 'latin1'),
): string {
  if (given.length > 0) return given.join(',')
  const present = shared.includes(type) ? superOptions(table, type) : null
  // What a security module shows there is its own.
  const kept = present?.split(',').filter((option) => !/^(seclabel$|\w*context=)/.test(option)) ?? []
  return kept.length > 0 ? kept.join(',') : 'rw'
}

/** Options of the superblock as the mount table has them; null when no such file system is mounted. */
export function superOptions(table: string, type: string): string | null {
  for (const line of table.split('\n')) {
    const [kind, , options] = (line.split(' - ')[1] ?? '').split(' ')
    if (kind === type) return options ?? null
  }
  return null
}

/** Mounts a file system for one experiment; skips where that is refused. */
export function mountFor(context: Context, type: string, options: string[] = []): string {
  const path = `${context.base}/${context.name(type)}`
  mkdirSync(path)
  const args = ['-t', type, '-o', mountOptions(type, options), 'lowerwatch-probe', path]
  try {
    execFileSync('mount', args, { stdio: 'pipe' })
  } catch (error) {
    throw new Skip(`${type} cannot be mounted here: ${lastLine(error)}`)
  }
  context.defer(() => void execFileSync('umount', ['--lazy', path], { stdio: 'pipe' }))
  return path
}

export function mountCgroup2(context: Context): string {
  return mountFor(context, 'cgroup2')
}

/**
 * A process in `cgroup` that makes a cgroup namespace there and mounts cgroup2 in a mount namespace of its own. That mount
 * is a superblock of its own, whose root is `cgroup`.
 *
 * @returns where that mount is seen from here
 */
export async function cgroupNamespace(context: Context, cgroup: string): Promise<string> {
  const point = `${context.base}/${context.name('inner')}`
  mkdirSync(point)
  // It waits until it is in the cgroup, and says when the mount is there.
  const script =
    'read -r go && exec unshare --cgroup --mount -- sh -c \'mount -t cgroup2 -o "$2" none "$1" && echo up && read -r end\' sh "$1" "$2"'
  const child = spawn('sh', ['-c', script, 'sh', point, mountOptions('cgroup2')], {
    stdio: ['pipe', 'pipe', 'pipe'],
  })
  const exited = once(child, 'exit')
  context.defer(async () => {
    child.kill('SIGKILL')
    await exited
  })
  const said: Buffer[] = []
  child.stderr.on('data', (chunk: Buffer) => said.push(chunk))
  writeFileSync(`${cgroup}/cgroup.procs`, String(child.pid))
  child.stdin.write('go\n')
  const up = await Promise.race([once(child.stdout, 'data').then(() => true), exited.then(() => false)])
  if (!up) throw new Skip(`no cgroup namespace here: ${Buffer.concat(said).toString().trim().split('\n')[0]}`)
  return `/proc/${child.pid}/root${point}`
}
