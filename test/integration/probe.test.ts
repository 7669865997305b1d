// SPDX-License-Identifier: MIT

/** `lowerwatch probe` on this kernel: every row, as the table says, and nothing left behind. */
import {
  chmodSync,
  chownSync,
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test, vi } from 'vitest'
import { defaultTable } from '../../src/probe/expectations.js'
import { allExperiments } from '../../src/probe/experiments.js'
import { removeLoop } from '../../src/probe/loop.js'
import { superOptions } from '../../src/probe/namespaces.js'
import { experiments } from '../../src/probe/native.js'
import type { ProbeReport } from '../../src/probe/run.js'
import { undo } from '../../src/probe/undo.js'
import { reachableCheckout } from './fixture/checkout.js'
import { lowerwatch, type Ran, runProgram } from './fixture/daemon.js'
import { cgroup2, daemonProgram, inUserNamespace, unprivileged } from './fixture/environment.js'
import { ProbePlace } from './fixture/probe.js'

vi.setConfig({ testTimeout: 60_000 })

const rows = allExperiments().flatMap((experiment) => experiment.rows.map(({ id }) => id))

const place = new ProbePlace()

/** Its temporary directory is the place. */
const probe = (...given: string[]): Promise<Ran> =>
  runProgram('env', `TMPDIR=${place.own}`, process.execPath, daemonProgram, 'probe', ...given)

function parse(ran: Ran): ProbeReport {
  expect(ran.stderr).toBe('')
  return JSON.parse(ran.stdout) as ProbeReport
}

function expectAll(report: ProbeReport): void {
  expect(report.rows.filter(({ status }) => status === 'differs')).toEqual([])
  expect(report.rows.map(({ id }) => id)).toEqual(rows)
  expect(report.leftBehind).toEqual([])
  for (const { status, reason } of report.rows) if (status === 'skipped') expect(reason).not.toBe('')
}

describe('on this kernel', () => {
  test('every row is there and as the table says, and nothing is left behind', async () => {
    const ran = await probe('--json')
    const report = parse(ran)
    expectAll(report)
    expect(ran.code).toBe(0)
    // What every kernel and user can do.
    const done = report.rows.filter(({ status }) => status === 'ok').map(({ id }) => id)
    expect(done).toContain('tmpfs/mkdir/inotify-directory')
    expect(done).toContain('overlay/negative/plain')
    expect(done).toContain('ladder/remount')
    place.expectNothingLeft()
  })

  test('mounts of its own leave the options of everybody’s hierarchy alone', async () => {
    const options = () =>
      ['cgroup2', 'debugfs', 'tracefs'].map((type) =>
        superOptions(readFileSync('/proc/self/mountinfo', 'latin1'), type),
      )
    const present = options()
    const { rows } = parse(
      await probe('--json', '--only', '^cgroup2/(second-mount|namespace)/|^tracefs/mkdir/'),
    )
    expect(rows.filter(({ status }) => status === 'differs')).toEqual([])
    expect(options()).toEqual(present)
  })

  test('two at once do not take each other’s things', async () => {
    const only = ['--json', '--only', '^(cgroup1|tracefs|cgroup2/(mkdir|rmdir|removed-while-open))/']
    for (const ran of await Promise.all([probe(...only), probe(...only)])) {
      const report = parse(ran)
      // Instances of tracing are in one directory: watchers there hear of the other's.
      expect(report.rows.filter(({ seen }) => /^(failed|the change): (?!EPERM)/.test(seen ?? ''))).toEqual([])
      expect(report.leftBehind).toEqual([])
    }
    place.expectNothingLeft()
  })

  test('with events, as TAP and for people', async () => {
    const [tap, text] = [
      await probe('--tap', '--only', '^tmpfs/'),
      await probe('--events', '--only', '^tmpfs/mkdir/'),
    ]
    expect(tap.stdout).toMatch(/^TAP version 14\n1\.\.\d+\nok 1 - tmpfs\/mkdir\/inotify-directory\n/)
    expect(text.stdout).toMatch(/^mkdir +C .*\n {2}a user makes a directory: told to everybody/m)
    expect(text.stdout).toMatch(/tmpfs\/mkdir\/inotify-directory\n {2}CREATE\|DIR directory lwp/)
    expect([tap.code, text.code]).toEqual([0, 0])
  })

  test('a row that is not as the table says is named, exit status 1', async () => {
    const table = JSON.parse(readFileSync(defaultTable, 'utf8'))
    table.rows['tmpfs/mkdir/inotify-directory'] = 'DELETE'
    const file = join(place.own, 'table.json')
    writeFileSync(file, JSON.stringify(table))
    const ran = await probe('--expect', file, '--only', '^tmpfs/')
    expect(ran.stdout).toContain('differs: tmpfs/mkdir/inotify-directory: expected DELETE, seen CREATE')
    expect(ran.stdout).toMatch(/ 1 differ, /)
    expect(ran.code).toBe(1)
    const tap = await probe('--expect', file, '--tap', '--only', '^tmpfs/mkdir/inotify-directory$')
    expect(tap.stdout).toContain('not ok 1 - tmpfs/mkdir/inotify-directory')
    expect(tap.code).toBe(1)
  })

  test('a matrix is made of reports', async () => {
    const file = join(place.own, 'report.json')
    writeFileSync(file, (await probe('--json', '--only', '^tmpfs/')).stdout)
    const { code, stdout } = await lowerwatch('probe', '--matrix', file, file)
    expect(stdout).toContain('| `tmpfs/mkdir/inotify-directory` | CREATE | CREATE |')
    expect(code).toBe(0)
  })

  test.each([
    [['--only', '['], /^lowerwatch: --only \[ is no regular expression\n$/],
    [['--only', '^nothing$'], /^lowerwatch: --only \^nothing\$ matches no row\n$/],
    [['--json', '--tap'], /^lowerwatch: either --json or --tap\n$/],
    [['--expect', '/none.json'], /^lowerwatch: \/none.json: no such file\n$/],
    [['--matrix', '/etc/passwd'], /^lowerwatch: \/etc\/passwd: .*\n$/],
    [['more'], /^lowerwatch: too many arguments for 'probe'/],
  ])('%j: one line, exit status 2', async (given, message) => {
    const ran = await probe(...given)
    expect(ran.stderr).toMatch(message)
    expect([ran.code, ran.stdout]).toEqual([2, ''])
  })
})

test('a plan in the environment that no supervisor made is not followed', async () => {
  const base = join(place.own, 'lowerwatch-probe-abcdef')
  const run = (plan: unknown, ...more: string[]) =>
    runProgram(
      'env',
      `LOWERWATCH_PROBE_PLAN=${typeof plan === 'string' ? plan : JSON.stringify(plan)}`,
      ...more,
    )
  const program = [process.execPath, daemonProgram, 'probe', '--only', '^tmpfs/mkdir/']
  const cgroup = { reason: 'none' }
  const refused = async (plan: unknown, why: string) => {
    const ran = await run(plan, ...program)
    expect(ran).toMatchObject({ code: 2, stdout: '' })
    expect(ran.stderr).toBe(`lowerwatch: LOWERWATCH_PROBE_PLAN is not from a probe: ${why}: unset it\n`)
  }
  mkdirSync(base, { mode: 0o700 })
  writeFileSync(join(base, 'kept'), '')
  await refused('{', 'it is no plan')
  await refused({ base }, 'it is no plan')
  await refused({ base: join(place.own, 'other'), cgroup }, 'another directory')
  await refused({ base: `${place.own}/lowerwatch-probe-ABCDEF`, cgroup }, 'no directory')
  await refused({ base, cgroup: { path: cgroup2().path } }, 'another cgroup')
  await refused({ base, cgroup }, 'no mount namespace')
  chmodSync(base, 0o755)
  await refused({ base, cgroup }, 'somebody else’s directory')
  expect(readdirSync(base)).toEqual(['kept'])
  rmSync(base, { recursive: true })
})

test('a loop device that somebody looks at is removed when they are done', async ({ skip }) => {
  skip(inUserNamespace || !existsSync('/dev/loop-control'), 'loop devices take root of the machine')
  const number = 950 + (process.pid % 40)
  skip(existsSync(`/sys/block/loop${number}`), `loop${number} is somebody’s`)
  experiments.loopDevice(number, true)
  place.cleanup.defer('loop', () => {
    if (existsSync(`/sys/block/loop${number}`)) experiments.loopDevice(number, false)
  })
  // devtmpfs may be mounted nowhere: a node of its own.
  const node = join(place.own, 'loop')
  const device = readFileSync(`/sys/block/loop${number}/dev`, 'latin1').trim().split(':')
  const made = await runProgram('mknod', node, 'b', ...device)
  skip(made.code !== 0, `no device node can be made: ${made.stderr.trim()}`)
  const held = openSync(node, 'r')
  let closed = false
  try {
    expect(() => experiments.loopDevice(number, false)).toThrow('EBUSY')
    const removed = removeLoop(number)
    closeSync(held)
    closed = true
    await removed
  } finally {
    if (!closed) closeSync(held)
  }
  expect(existsSync(`/sys/block/loop${number}`)).toBe(false)
})

test('a directory is not cleared while something is mounted in it', async () => {
  const base = join(place.own, 'lowerwatch-probe-abcdef')
  const point = join(base, 'own')
  mkdirSync(point, { recursive: true })
  place.cleanup.defer('mount', async () => void (await runProgram('umount', '--lazy', point)))
  await runProgram('mount', '-t', 'tmpfs', 'none', point)
  writeFileSync(join(point, 'kept'), '')
  await expect(undo({ base, cgroup: { reason: 'none' } })).rejects.toThrow(
    `${base} is left behind: mounted: ${point}`,
  )
  expect(readdirSync(point)).toEqual(['kept'])
  await runProgram('umount', point)
  await undo({ base, cgroup: { reason: 'none' } })
  place.expectNothingLeft()
})

test('in `unshare -UrmC`, started by nobody in particular', async ({ skip }) => {
  skip(inUserNamespace, 'this run is in a user namespace already')
  const user = ['--reuid', `${unprivileged.uid}`, '--regid', `${unprivileged.gid}`, '--clear-groups']
  const namespace = await runProgram('setpriv', ...user, 'unshare', '-UrmC', 'true')
  skip(namespace.code !== 0, `no user namespaces here: ${namespace.stderr.trim()}`)
  const checkout = reachableCheckout()
  place.cleanup.defer('checkout', () => checkout.release())
  place.look()
  chownSync(place.own, unprivileged.uid, unprivileged.gid)
  const program = [process.execPath, join(checkout.path, 'dist/cli/main.js'), 'probe', '--json']
  const environment = ['env', `TMPDIR=${place.own}`, '--unset=RUNTIME_DIRECTORY']
  for (const prefix of [['unshare', '-UrmC'], []]) {
    const ran = await runProgram('setpriv', ...user, ...environment, ...prefix, ...program)
    const report = parse(ran)
    expectAll(report)
    expect(report.user).toBe('root of a user namespace')
    expect(ran.code).toBe(0)
    place.expectNothingLeft()
  }
})
