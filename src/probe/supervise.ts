// SPDX-License-Identifier: MIT

/** The process outside: it gives the one inside its place, and clears it whatever became of that. */
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readlinkSync } from 'node:fs'
import { constants, tmpdir } from 'node:os'
import { basename, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { LowerwatchError } from '../errors.js'
import { makeCgroup } from './cgroup.js'
import { networkMarker } from './network.js'
import { probePrefix, type SandboxPlan } from './plan.js'
import { undo } from './undo.js'

const program = fileURLToPath(new URL('../cli/main.js', import.meta.url))

/** In the environment of the process inside: its {@link SandboxPlan}. */
export const planMarker = 'LOWERWATCH_PROBE_PLAN'

const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

/** Runs the same command line in a private mount namespace. @returns its exit status */
export async function superviseProbe(args: string[]): Promise<number> {
  const namespace = privateNamespace()
  const base = mkdtempSync(join(resolve(tmpdir()), probePrefix))
  const plan: SandboxPlan = { base, cgroup: makeCgroup(basename(base)) }
  // From here on a signal must not end this process before the place is cleared.
  let signalled: NodeJS.Signals | null = null
  let pass: (signal: NodeJS.Signals) => void = () => undefined
  const onSignal = (signal: NodeJS.Signals) => {
    signalled = signal
    pass(signal)
  }
  for (const signal of signals) process.on(signal, onSignal)
  try {
    const child = spawn('unshare', [...namespace, '--', process.execPath, program, ...args], {
      // Its input ends when this process does: then it clears up by itself.
      stdio: ['pipe', 'inherit', 'inherit'],
      env: {
        ...process.env,
        [planMarker]: JSON.stringify(plan),
        [networkMarker]: readlinkSync('/proc/self/ns/net'),
      },
    })
    pass = (signal) => void child.kill(signal)
    if (signalled !== null) child.kill(signalled)
    const [code, by] = (await once(child, 'exit')) as [number | null, NodeJS.Signals | null]
    if (signalled !== null) return 128 + constants.signals[signalled as NodeJS.Signals]
    if (by === null) return code ?? 2
    throw new LowerwatchError('KERNEL', `the probe was ended by ${by}`)
  } finally {
    await undo(plan)
    for (const signal of signals) process.off(signal, onSignal)
  }
}

/** Flags of unshare(1): the best private namespace that this user can have. */
function privateNamespace(): string[] {
  const mount = ['--mount', '--propagation', 'private']
  const user = process.getuid?.() === 0 ? [] : ['--user', '--map-root-user', '--cgroup']
  let said = ''
  for (const flags of [
    [...user, ...mount, '--net'],
    [...user, ...mount],
  ]) {
    const { status, stderr, error } = spawnSync('unshare', [...flags, '--', 'true'], { stdio: 'pipe' })
    if (error !== undefined)
      throw new LowerwatchError('MISSING_TOOL', 'unshare(1) is missing', { hint: 'install util-linux' })
    if (status === 0) return flags
    said = String(stderr).trim().split('\n').at(-1) ?? ''
  }
  throw new LowerwatchError('NOT_PERMITTED', `no private mount namespace here: ${said}`, {
    hint: 'run as root, or allow user namespaces',
  })
}
