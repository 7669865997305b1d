// SPDX-License-Identifier: MIT
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fromText } from '../bytes.js'
import { isSyscallError, LowerwatchError } from '../errors.js'
import { type Lane, native } from '../native.js'
import type { DemoOverlay } from './demo-scenes.js'

/** The throw-away overlays of the demonstration, in the private mount namespace that the process is in. */
export interface Stage {
  directory: DemoOverlay
  /** Null where there is no cgroup2 to make a cgroup in. */
  cgroup: DemoOverlay | null
  cgroupReason: string
  scratch: string
  close(): Promise<void>
}

export async function openStage(): Promise<Stage> {
  const lane = new native.Lane('stage')
  const base = mkdtempSync(join(tmpdir(), 'lowerwatch-demo-'))
  const mounted: string[] = []
  let cgroupPath: string | null = null
  const close = async () => {
    for (const path of mounted.reverse()) await native.detachMount(lane, fromText(path))
    if (cgroupPath !== null) removeCgroups(cgroupPath)
    rmSync(base, { recursive: true, force: true })
    lane.close()
  }
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'mode=0755', 'lowerwatch-demo', base], { stdio: 'pipe' })
    mounted.push(base)
    mkdirSync(`${base}/lower`)
    const directory = await mountOverlay(lane, base, 'directory', `${base}/lower`, mounted)
    const own = makeCgroup()
    cgroupPath = own.path
    const cgroup = own.path === null ? null : await mountOverlay(lane, base, 'cgroup', own.path, mounted)
    return { directory, cgroup, cgroupReason: own.reason, scratch: base, close }
  } catch (error) {
    await close()
    throw isSyscallError(error) || (error as { status?: number }).status !== undefined
      ? new LowerwatchError(
          'UNSUPPORTED_KERNEL',
          `cannot mount an overlay here: ${(error as Error).message.trim()}`,
          {
            hint: 'overlayfs and permission to mount are needed: run as root',
            cause: error,
          },
        )
      : error
  }
}

async function mountOverlay(
  lane: Lane,
  base: string,
  name: string,
  lower: string,
  mounted: string[],
): Promise<DemoOverlay> {
  const [upper, work, merged] = ['upper', 'work', 'merged'].map((part) => {
    mkdirSync(`${base}/${name}-${part}`)
    return `${base}/${name}-${part}`
  }) as [string, string, string]
  const mount = await native.freshOverlay(lane, {
    lower: [fromText(lower)],
    dataOnly: [],
    upper: { upper: fromText(upper), work: fromText(work) },
    options: process.getuid?.() === 0 && isInitialUserNamespace() ? [] : [['userxattr', null]],
    mountAttributes: 0,
    readOnly: false,
  })
  await native.attachMount(lane, mount, fromText(merged), { beneath: false })
  mount.close()
  mounted.push(merged)
  return { lower, merged }
}

function isInitialUserNamespace(): boolean {
  return readFileSync('/proc/self/uid_map', 'latin1').trim().split(/\s+/).join(' ') === '0 0 4294967295'
}

function makeCgroup(): { path: string | null; reason: string } {
  const line = readFileSync('/proc/self/mountinfo', 'latin1')
    .split('\n')
    .find((entry) => entry.includes(' - cgroup2 '))
  if (line === undefined) return { path: null, reason: 'no cgroup2 is mounted' }
  const path = `${line.split(' ')[4]}/lowerwatch-demo-${process.pid}`
  try {
    mkdirSync(path)
    return { path, reason: '' }
  } catch (error) {
    return { path: null, reason: `cannot make a cgroup: ${(error as NodeJS.ErrnoException).code}` }
  }
}

function removeCgroups(path: string): void {
  const children = execFileSync('find', [path, '-mindepth', '1', '-depth', '-type', 'd', '-print0'])
  for (const child of children.toString('latin1').split('\0').filter(Boolean)) rmdirSync(child)
  rmdirSync(path)
}
