// SPDX-License-Identifier: MIT

/** Overlays made on purpose for check, holders and vanish: a lower of each kind, one tmpfs for the rest. */
import { spawnSync } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, onTestFinished } from 'vitest'
import { fromText } from '../../src/bytes.js'
import { type CheckReport, checkOverlay } from '../../src/coherence/check.js'
import { native } from '../../src/native.js'
import { discoverOverlays, findOverlay } from '../../src/overlay/discover.js'
import { openOverlay } from '../../src/overlay/open.js'
import type { OpenOverlay } from '../../src/overlay/types.js'
import {
  cgroup2,
  inUserNamespace,
  mountLines,
  requirePrivateNamespace,
  run,
  whyNoLoop,
} from './fixture/environment.js'
import { removeCgroup, temporaryDirectory } from './fixture/lowers.js'

export type LowerKind = 'same' | 'tmpfs' | 'ext4' | 'cgroup2'

requirePrivateNamespace()

/** Why there can be no lower of that kind here; '' when there can. */
export function whyNo(kind: LowerKind): string {
  if (kind === 'ext4') return whyNoLoop()
  return kind === 'cgroup2' ? cgroup2().reason : ''
}

export const whyNoRoot = inUserNamespace ? '(needs real root: file handles, other users, redirects)' : ''

/** A tmpfs of its own; it goes with everything that is mounted on it. */
export function scratch(): string {
  const directory = temporaryDirectory('check')
  run('mount', '-t', 'tmpfs', 'scratch', directory)
  afterAll(() => {
    for (const { mountPoint } of mountLines().reverse())
      if (mountPoint === directory || mountPoint.startsWith(`${directory}/`))
        spawnSync('umount', ['-l', mountPoint])
    rmSync(directory, { recursive: true, force: true })
  })
  return directory
}

export interface Stage {
  base: string
  lower: string
  upper: string
  work: string
  merged: string
}

let count = 0

/** Directories of one overlay below `base`; nothing is mounted but a file system for the lower. */
export function stage(base: string, kind: LowerKind): Stage {
  const own = join(base, `stage-${count++}`)
  const at = (name: string) => join(own, name)
  for (const name of ['upper', 'work', 'merged']) mkdirSync(at(name), { recursive: true })
  const lower =
    kind === 'cgroup2' ? join(cgroup2().path, `lowerwatch-check-${process.pid}-${count}`) : at('lower')
  mkdirSync(lower)
  if (kind === 'cgroup2') onTestFinished(() => removeCgroup(Buffer.from(lower)))
  if (kind === 'tmpfs') run('mount', '-t', 'tmpfs', 'lower', lower)
  if (kind === 'ext4') {
    run('truncate', '-s', '16M', at('image'))
    run('mke2fs', '-q', '-t', 'ext4', at('image'))
    run('mount', '-o', 'loop', at('image'), lower)
  }
  return { base: own, lower, upper: at('upper'), work: at('work'), merged: at('merged') }
}

export function mountStage(at: Stage, options = ''): void {
  const layers = `lowerdir=${at.lower},upperdir=${at.upper},workdir=${at.work}`
  const user = inUserNamespace ? ',userxattr' : ''
  run('mount', '-t', 'overlay', 'overlay', '-o', layers + user + options, at.merged)
}

/** An overlay of lower layers only. */
export function mountLayers(layers: string[], merged: string): void {
  run('mount', '-t', 'overlay', 'overlay', '-o', `lowerdir=${layers.join(':')}`, merged)
}

/** The overlay as the commands open it; closed after the test. */
export async function open(mountPoint: string): Promise<OpenOverlay> {
  const lane = new native.Lane('open')
  try {
    const found = await findOverlay(await discoverOverlays(lane), fromText(mountPoint), lane)
    const overlay = await openOverlay(found)
    onTestFinished(() => overlay.close())
    return overlay
  } finally {
    lane.close()
  }
}

/** Looks up, and lists or reads, so that the overlay caches its answer, whatever that is. */
export function ask(...paths: string[]): void {
  for (const path of paths) {
    const found = statSync(path, { throwIfNoEntry: false })
    if (found?.isDirectory()) readdirSync(path)
    else if (found?.isFile()) readFileSync(path)
  }
}

/** What a check reports, a line each. */
export const found = ({ entries }: CheckReport) => entries.map(({ kind, path }) => `${kind} ${path}`).sort()

export async function check(at: Stage, paths: string[] | null = null): Promise<string[]> {
  return found(await checkOverlay(await open(at.merged), { paths: paths?.map(fromText) ?? null }))
}
