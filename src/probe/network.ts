// SPDX-License-Identifier: MIT

/** Network devices in a network namespace of the probe's own: sysfs shows them appear and go, and nobody else does. */
import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, readlinkSync } from 'node:fs'
import { type Context, Skip } from './types.js'

/** Kinds of devices that a kernel may have, made without another device below. */
const kinds = ['dummy', 'bridge', 'ifb', 'veth', 'tun']

export const networkMarker = 'LOWERWATCH_PROBE_NETWORK'

/** Runs ip(8), and gives its last line when it fails. */
function ip(...args: string[]): string {
  try {
    execFileSync('ip', args, { stdio: 'pipe' })
    return ''
  } catch (error) {
    const { code, stderr } = error as NodeJS.ErrnoException & { stderr?: Buffer }
    if (code === 'ENOENT') throw new Skip('ip(8) is missing: install iproute2')
    return String(stderr ?? error)
      .trim()
      .split('\n')
      .at(-1)!
  }
}

/** Where the sysfs of the probe's network namespace is mounted. */
export function ownSysfs(context: Context): string {
  const outside = process.env[networkMarker]
  // Nothing is added to or taken from a network that others use.
  if (outside === undefined || outside === readlinkSync('/proc/self/ns/net'))
    throw new Skip('no network namespace of its own here')
  const path = `${context.base}/sysfs`
  if (isMounted(path)) return path
  mkdirSync(path, { recursive: true })
  try {
    execFileSync('mount', ['-t', 'sysfs', 'lowerwatch-probe', path], { stdio: 'pipe' })
  } catch (error) {
    throw new Skip(`sysfs cannot be mounted here: ${lastLine(error)}`)
  }
  return path
}

export function lastLine(error: unknown): string {
  const { stderr, message } = error as Error & { stderr?: Buffer }
  const lines = String(stderr ?? message)
    .trim()
    .split('\n')
  // Without the path, which is another each time.
  return (lines.find((line) => !line.includes('dmesg')) ?? message).replace(/^mount: \S+: /, '')
}

export function isMounted(path: string): boolean {
  return readFileSync('/proc/self/mountinfo', 'latin1')
    .split('\n')
    .some((line) => line.split(' ')[4] === path)
}

/** @returns the name's kind, for the text of a row */
export function addDevice(name: string): string {
  const reasons: string[] = []
  for (const kind of kinds) {
    const reason =
      kind === 'tun' ? ip('tuntap', 'add', 'dev', name, 'mode', 'tap') : ip('link', 'add', name, 'type', kind)
    if (reason === '') return kind
    reasons.push(`${kind}: ${reason}`)
  }
  throw new Skip(`no network device can be made: ${reasons[0]}`)
}

export function removeDevice(name: string): void {
  const reason = ip('link', 'delete', name)
  if (reason !== '') throw new Error(`ip link delete: ${reason}`)
}

export function renameDevice(from: string, to: string): void {
  const reason = ip('link', 'set', from, 'name', to)
  if (reason !== '') throw new Error(`ip link set name: ${reason}`)
}
