// SPDX-License-Identifier: MIT

/** Other views of the same hierarchy: a second mount, and one from within a cgroup namespace. */
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, writeFileSync } from 'node:fs'
import { lastLine } from './network.js'
import { type Context, Skip } from './types.js'

/** Mounts a file system for one experiment; skips where that is refused. */
export function mountFor(context: Context, type: string, options: string[] = []): string {
  const path = `${context.base}/${context.name(type)}`
  mkdirSync(path)
  const given = options.length > 0 ? ['-o', options.join(',')] : []
  try {
    execFileSync('mount', ['-t', type, ...given, 'lowerwatch-probe', path], { stdio: 'pipe' })
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
    'read -r go && exec unshare --cgroup --mount -- sh -c \'mount -t cgroup2 none "$1" && echo up && read -r end\' sh "$1"'
  const child = spawn('sh', ['-c', script, 'sh', point], { stdio: ['pipe', 'pipe', 'pipe'] })
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
