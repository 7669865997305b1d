// SPDX-License-Identifier: MIT
// Real mounts for the tests of native/sys. They need root and a mount namespace of their own:
// unshare -m --propagation private npx vitest run test/unit/native-sys
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, readlinkSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe } from 'vitest'
import { fromText } from '../../../src/bytes.js'
import { type Handle, type Lane, native } from '../../../src/native.js'

/** True when an ancestor lives in another mount namespace, so that this one is not the machine's. */
function inOwnNamespace(): boolean {
  // In a user namespace only mount namespaces made there can be mounted in.
  if (!/^\s*0\s+0\s+4294967295\s*$/.test(readFileSync('/proc/self/uid_map', 'latin1'))) return true
  const own = readlinkSync('/proc/self/ns/mnt')
  for (let pid = process.ppid; pid > 0; ) {
    try {
      if (readlinkSync(`/proc/${pid}/ns/mnt`) !== own) return true
    } catch {
      // Another user's process: not known.
    }
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
    pid = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1])
  }
  return false
}

/** Why real mounts cannot be made here; '' when they can. */
export const cannotMount = ((): string => {
  if (process.getuid?.() !== 0) return 'not root'
  return inOwnNamespace() ? '' : 'not in a mount namespace of its own (unshare -m --propagation private)'
})()

/** A group of tests on real mounts; skipped with the reason in its title where they cannot be made. */
export function onMounts(title: string, body: () => void): void {
  if (cannotMount === '') describe(title, body)
  else {
    process.stderr.write(`skipped: ${title}: ${cannotMount}\n`)
    describe.skip(`${title} (skipped: ${cannotMount})`, body)
  }
}

/** A tmpfs of its own, removed with everything mounted on it at the end of the file. */
export function scratch(): string {
  // The body of a skipped group runs too, but nothing that it leaves for the end.
  if (cannotMount !== '') return ''
  const directory = mkdtempSync(join(tmpdir(), 'lowerwatch-sys-'))
  mount('-t', 'tmpfs', 'scratch', directory)
  afterAll(() => {
    for (const point of mountPoints().reverse()) {
      if (point === directory || point.startsWith(`${directory}/`)) spawnSync('umount', ['-l', '--', point])
    }
    rmSync(directory, { recursive: true, force: true })
  })
  return directory
}

export function mountPoints(): string[] {
  return mountLines().map((line) =>
    (line.split(' ')[4] ?? '').replace(/\\([0-7]{3})/g, (_, octal) =>
      String.fromCharCode(Number.parseInt(octal, 8)),
    ),
  )
}

export function mountLines(): string[] {
  return readFileSync('/proc/self/mountinfo', 'latin1').split('\n').filter(Boolean)
}

export function mount(...args: string[]): void {
  execFileSync('mount', args, { stdio: 'pipe' })
}

export function umount(path: string): void {
  execFileSync('umount', ['--', path], { stdio: 'pipe' })
}

export function directories(base: string, ...names: string[]): string[] {
  return names.map((name) => {
    mkdirSync(join(base, name), { recursive: true })
    return join(base, name)
  })
}

/** A lane that is closed at the end of the file. */
export function lane(): Lane {
  const made = new native.Lane('test')
  afterAll(() => made.close())
  return made
}

export async function tree(on: Lane, path: string): Promise<Handle> {
  return native.openTree(on, fromText(path), { clone: true })
}
