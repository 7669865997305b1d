// SPDX-License-Identifier: MIT

/** `lowerwatch probe` that is ended before it is done: nothing is left behind. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test, vi } from 'vitest'
import { daemonProgram, inUserNamespace } from './fixture/environment.js'
import { ProbePlace } from './fixture/probe.js'

vi.setConfig({ testTimeout: 60_000 })

const place = new ProbePlace()

/** Starts it, and returns when experiments are under way. */
async function started(
  given: string[] = [],
  ready = underWay,
): Promise<{
  supervisor: ChildProcess
  inside: number
  exited: Promise<unknown[]>
}> {
  const supervisor = spawn(process.execPath, [daemonProgram, 'probe', '--json', ...given], {
    stdio: 'ignore',
    env: { ...process.env, TMPDIR: place.own },
  })
  const exited = once(supervisor, 'exit')
  place.cleanup.defer('probe', async () => {
    if (supervisor.exitCode === null && supervisor.signalCode === null) supervisor.kill('SIGKILL')
    await exited
  })
  const inside = await vi.waitFor(
    () => {
      const [pid] = place.processes().filter((candidate) => ready(candidate))
      if (pid === undefined) throw new Error('not under way')
      return Number(pid)
    },
    { timeout: 20_000, interval: 5 },
  )
  return { supervisor, inside, exited }
}

/** Its own tmpfs is there, and experiments have made something in it. */
function underWay(pid: string): boolean {
  try {
    const base = readdirSync(place.own).find((name) => name.startsWith('lowerwatch-probe-'))
    return base !== undefined && readdirSync(`/proc/${pid}/root${place.own}/${base}/own`).length > 0
  } catch {
    return false
  }
}

test.each(['SIGINT', 'SIGTERM'] as const)('%s: nothing is left behind', async (signal) => {
  const { supervisor, exited } = await started()
  supervisor.kill(signal)
  expect(await exited).toEqual([signal === 'SIGINT' ? 130 : 143, null])
  place.expectNothingLeft()
})

test('the one inside is killed: the other clears up and says so', async () => {
  const { inside, exited } = await started()
  process.kill(inside, 'SIGKILL')
  expect(await exited).toEqual([2, null])
  place.expectNothingLeft()
})

test.skipIf(inUserNamespace)(
  'killed while there are devices, instances or hierarchies of its own (skipped: a user namespace has none)',
  async () => {
    const only = ['--only', '^(cgroup1|tracefs|debugfs|sysfs/block-)']
    const { inside, exited } = await started(only, (pid) => remembers(pid))
    process.kill(inside, 'SIGKILL')
    expect(await exited).toEqual([2, null])
    place.expectNothingLeft()
  },
)

/** Something is made that outlives the namespace. */
function remembers(pid: string): boolean {
  const base = readdirSync(place.own).find((name) => name.startsWith('lowerwatch-probe-'))
  if (base === undefined || !existsSync(join(place.own, base, 'resources'))) return false
  return readFileSync(`/proc/${pid}/cmdline`, 'latin1').startsWith(process.execPath)
}

test('the one outside is killed: the one inside clears up', async () => {
  const { supervisor, exited } = await started()
  supervisor.kill('SIGKILL')
  await exited
  await vi.waitFor(() => expect(place.processes()).toEqual([]), { timeout: 20_000, interval: 20 })
  place.expectNothingLeft()
})
