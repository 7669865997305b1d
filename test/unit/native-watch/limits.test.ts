// SPDX-License-Identifier: MIT
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { ArmedLayer, Change, WatcherCounters } from '../../../src/native.js'
import { Fixture, isRoot, Kind, scopesHere } from './fixture.js'

interface Line {
  armed?: ArmedLayer
  state?: ArmedLayer
  counters?: WatcherCounters
  changes?: Change[]
  error?: { code: string; message: string }
}

/** child.mjs, with what it has printed. */
class Child {
  readonly lines: Line[] = []
  readonly process: ChildProcess
  #wake: (() => void)[] = []

  constructor(command: string, args: string[]) {
    this.process = spawn(command, args, { stdio: ['ignore', 'pipe', 'inherit'] })
    createInterface({ input: this.process.stdout! }).on('line', (line) => {
      this.lines.push(JSON.parse(line))
      for (const wake of this.#wake.splice(0)) wake()
    })
  }

  async find<T>(pick: (line: Line) => T | undefined): Promise<T> {
    for (;;) {
      for (const line of this.lines) {
        const found = pick(line)
        if (found !== undefined) return found
      }
      await new Promise<void>((resolve) => this.#wake.push(resolve))
    }
  }

  kinds(directory: string, name: string): number {
    const changes = this.lines.flatMap((line) => line.changes ?? [])
    return changes
      .filter((c) => c.directory === directory && c.name === name)
      .reduce((all, c) => all | c.kind, 0)
  }

  async end(): Promise<void> {
    const ended = new Promise((resolve) => this.process.once('exit', resolve))
    this.process.kill('SIGKILL')
    await ended
  }
}

const script = fileURLToPath(new URL('child.mjs', import.meta.url))

describe.each(scopesHere())('bounds, scope %s', (scope) => {
  let f: Fixture
  let child: Child | undefined
  afterEach(async () => {
    await child?.end()
    child = undefined
    f.close()
  })

  // The callback cannot run while spawnSync blocks this thread: names are merged in the reader.
  const whileBlocked = (command: string) =>
    spawnSync('bash', ['-ec', command], { cwd: f.base, stdio: ['ignore', 'ignore', 'inherit'] })

  test('more names than the bound become one dirty directory, the fullest', async () => {
    f = new Fixture({ maxNames: 20 })
    await f.sh('mkdir -p layer/full layer/small')
    await f.add(1, f.path('layer'), scope)
    whileBlocked(
      'mknod layer/small/x p; for i in {1..100}; do mknod layer/full/$i p; done; mknod layer/small/y p',
    )
    await f.seen('small', 'y', Kind.create)
    expect(f.kinds('full', '')).toBe(Kind.directoryDirty)
    expect(f.kinds('small', 'x')).toBe(Kind.create)
    expect(f.watcher.counters().degradedDirectories).toBeGreaterThanOrEqual(1)
    expect(f.watcher.counters().degradedLayers).toBe(0)
  })

  test('more directories than the bound become one dirty layer, and another layer keeps its names', async () => {
    f = new Fixture({ maxDirectories: 10 })
    await f.sh('mkdir -p layer other; for i in {1..50}; do mkdir layer/$i; done')
    await f.add(1, f.path('layer'), scope)
    await f.add(2, f.path('other'), scope)
    whileBlocked('for i in {1..50}; do mknod layer/$i/x p; done; mknod other/y p; mknod other/z p')
    await f.seen('', 'z', Kind.create, 2)
    expect(f.kinds('', '', 1) & Kind.layerDirty).toBe(Kind.layerDirty)
    expect(f.kinds('', 'y', 2)).toBe(Kind.create)
    expect(f.watcher.counters().degradedLayers).toBeGreaterThanOrEqual(1)
    // The next quiet moment starts anew.
    f.clear()
    await f.sh('mknod layer/1/again p')
    await f.seen('1', 'again', Kind.create, 1)
  })

  test('an overflow of the queue makes the layer dirty, and what was made meanwhile is watched', async () => {
    f = new Fixture()
    mkdirSync(f.path('layer'))
    child = new Child(process.execPath, [script, scope, f.path('layer'), '100000'])
    await child.find((line) => line.armed)
    // A stopped process reads nothing: the kernel's queue runs over, whatever its length is.
    child.process.kill('SIGSTOP')
    const queue = scope === 'inotify' ? 'fs.inotify.max_queued_events' : 'fs.fanotify.max_queued_events'
    const limit = Number(execFileSync('sysctl', ['-n', queue]))
    expect(limit).toBeLessThan(200_000)
    await f.sh(
      `python3 -c 'import os\nfor i in range(${limit} + 100): os.close(os.open("layer/%d" % i, os.O_CREAT))
os.makedirs("layer/late/deep")'`,
    )
    child.process.kill('SIGCONT')
    await child.find((line) =>
      line.changes?.find((c) => (c.kind & Kind.overflow) !== 0 && (c.kind & Kind.layerDirty) !== 0),
    )
    await f.sh('mknod layer/late/deep/x p')
    const late = child
    await late.find(() => (late.kinds('late/deep', 'x') & Kind.create) !== 0 || undefined)
    late.process.kill('SIGUSR2')
    const counters = await late.find((line) => line.counters)
    expect(counters.overflows).toBe(1)
  }, 60_000)

  test('names that JavaScript has not taken yet are merged, first seen first', async () => {
    f = new Fixture()
    mkdirSync(f.path('layer'))
    await f.add(1, f.path('layer'), scope)
    await f.settle('layer')
    f.clear()
    whileBlocked('mknod layer/a p; mknod layer/b p; chmod 600 layer/a; rm layer/a; mknod layer/c p')
    await f.seen('', 'c', Kind.create)
    const names = f.changes.map((change) => change.name).filter((name) => !name.startsWith('marker-'))
    expect(f.kinds('', 'a')).toBe(Kind.create | Kind.attributes | Kind.delete)
    expect(names).toEqual(['a', 'b', 'c'])
  })
})

describe.each(scopesHere().filter((scope) => scope !== 'filesystem'))(
  'limits on directories, scope %s',
  (scope) => {
    let f: Fixture
    beforeEach(() => {
      f = new Fixture()
    })
    afterEach(() => f.close())

    test('what is beyond maxDirectories is named, and watched once there is room', async () => {
      await f.sh('mkdir -p layer/a/x layer/b/y')
      const armed = await f.add(1, f.path('layer'), scope, { maxDirectories: 3 })
      expect(armed.directories).toBe(3)
      expect(armed.unwatched).toEqual(['a/x', 'b/y'])
      expect(armed.unwatchedReason).toBe('maxDirectories 3')
      await f.sh('rmdir layer/a/x layer/a; touch layer/b/y/f')
      // It was not watched until now: whatever is in it may have changed.
      await f.seen('b/y', '', Kind.directoryDirty)
      await f.seen('b/y', 'f', Kind.create)
      await f.settle('layer')
      await f.until(() => f.watcher.layerState(1)?.unwatched.length === 0)
      expect(f.watcher.layerState(1)).toMatchObject({ directories: 3, unwatchedReason: '' })
    })
  },
)

describe.skipIf(!isRoot)('without CAP_DAC_READ_SEARCH', () => {
  test('handles cannot be opened, so the scope filesystem is refused with that reason', async () => {
    const f = new Fixture()
    mkdirSync(f.path('layer'))
    const less = [
      '--bounding-set=-dac_read_search',
      process.execPath,
      script,
      'filesystem,inode',
      f.path('layer'),
      '9',
    ]
    const child = new Child('setpriv', less)
    const armed = await child.find((line) => line.armed)
    expect(armed).toMatchObject({ scope: 'inode', reasons: ['filesystem: open_by_handle_at EPERM'] })
    await f.sh('mkdir layer/d; touch layer/d/x')
    await child.find(() => (child.kinds('d', 'x') & Kind.create) !== 0 || undefined)
    await child.end()
    f.close()
  })
})

/** Whether an ordinary user may make a user namespace here, in which limits can be set. */
const namespaces = spawnSync('unshare', ['-Ur', 'true']).status === 0
if (!namespaces) console.warn('skipped: low limits need user namespaces (unshare -Ur)')

describe.skipIf(!namespaces)('in a user namespace', () => {
  let f: Fixture
  let child: Child
  beforeEach(() => {
    f = new Fixture()
  })
  afterEach(async () => {
    await child.end()
    f.close()
  })
  const run = (limits: string, scopes: string) =>
    new Child('unshare', [
      '-Ur',
      '--kill-child=SIGKILL',
      'sh',
      '-c',
      `${limits} exec "$@"`,
      'sh',
      process.execPath,
      script,
      scopes,
      f.path('layer'),
      '1000',
    ])

  test.each([
    ['inotify', 'max_inotify_watches', 'fs.inotify.max_user_watches'],
    ['inode', 'max_fanotify_marks', 'fs.fanotify.max_user_marks'],
  ])(
    '%s: a limit that is reached leaves the rest unwatched and names the limit',
    async (scope, limit, sysctl) => {
      await f.sh('mkdir -p layer/{1,2,3,4}/{a,b}; chmod -R a+rX .')
      child = run(`echo 6 > /proc/sys/user/${limit};`, scope)
      const armed = await child.find((line) => line.armed)
      expect(armed.scope).toBe(scope)
      expect(armed.directories).toBe(6)
      expect(armed.unwatched).toHaveLength(7)
      expect(armed.unwatchedReason).toContain(sysctl)
      expect(armed.unwatchedReason).toContain(`user.${limit}`)
      await f.sh('touch layer/new')
      await child.find(() => (child.kinds('', 'new') & Kind.create) !== 0 || undefined)
    },
  )

  test('the scope falls back with the reason', async () => {
    mkdirSync(f.path('layer'))
    child = run('', 'filesystem,inode')
    const armed = await child.find((line) => line.armed)
    expect(armed.scope).toBe('inode')
    expect(armed.reasons).toHaveLength(1)
    expect(armed.reasons[0]).toBe('filesystem: EPERM')
    await f.sh('mkdir -p layer/a/b; touch layer/a/b/f')
    await child.find(() => (child.kinds('a/b', 'f') & Kind.create) !== 0 || undefined)
  })

  test('with no scope that works the layer is refused, with every reason', async () => {
    mkdirSync(f.path('layer'))
    child = run('', 'filesystem')
    const error = await child.find((line) => line.error)
    expect(error.message).toMatch(/filesystem: .*EPERM/)
  })
})
