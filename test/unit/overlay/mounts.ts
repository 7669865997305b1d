// SPDX-License-Identifier: MIT
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, readlinkSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe } from 'vitest'
import { type ByteString, toBuffer } from '../../../src/bytes.js'
import { native } from '../../../src/native.js'

/** Why real mounts cannot be made here; '' when they can. */
export const cannotMount = ((): string => {
  if (process.env.LOWERWATCH_SKIP !== undefined) return process.env.LOWERWATCH_SKIP
  if (process.getuid?.() !== 0) return 'not root'
  // scripts/test has made the namespace; /proc/1/ns is not readable everywhere.
  if (process.env.LOWERWATCH_PRIVATE_MOUNTS === '1') return ''
  try {
    const own = readlinkSync('/proc/self/ns/mnt')
    return own === readlinkSync('/proc/1/ns/mnt') ? 'not in a mount namespace of its own' : ''
  } catch {
    return 'not known whether this mount namespace is private: run scripts/test'
  }
})()

/** A group of tests on real mounts; skipped with the reason in its title where they cannot be made. */
export function onMounts(title: string, body: () => void): void {
  if (cannotMount === '') describe(title, body)
  else describe.skip(`${title} (skipped: ${cannotMount})`, body)
}

/** A tmpfs for the tests of a file, and a maker of directories on it: each call has one of its own. */
export function scratch() {
  const base = mkdtempSync(join(tmpdir(), 'lowerwatch-overlay-'))
  if (cannotMount === '') execFileSync('mount', ['-t', 'tmpfs', 'scratch', base])
  const lane = new native.Lane('test')
  afterAll(() => {
    lane.close()
    const mounted = readFileSync('/proc/self/mountinfo', 'latin1')
      .split('\n')
      .filter((line) => line.includes(base))
    // Lazily and from the outside: what lies below goes too.
    if (mounted.length > 0) spawnSync('umount', ['-l', base])
    rmSync(base, { recursive: true, force: true })
  })
  let count = 0
  return {
    base,
    lane,
    /** Makes `.../N/NAME` for each name, with a new N. */
    make(...names: string[]): ByteString[] {
      count++
      return names.map((name) => {
        mkdirSync(toBuffer(`${base}/${count}/${name}`), { recursive: true })
        return `${base}/${count}/${name}`
      })
    },
    /** The directory of the last call. */
    here: () => `${base}/${count}`,
  }
}
