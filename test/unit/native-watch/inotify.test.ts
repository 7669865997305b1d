// SPDX-License-Identifier: MIT
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, renameSync, rmSync, unlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { Inotify, type InotifyEvent } from '../../../src/watch/inotify.js'
import { scratch } from './fixture.js'

let base: string
let inotify: Inotify
let events: InotifyEvent[]
let waiting: (() => void)[]

beforeEach(() => {
  base = mkdtempSync(join(scratch, 'lw-inotify-'))
  inotify = new Inotify()
  events = []
  waiting = []
})
afterEach(() => {
  inotify.close()
  rmSync(base, { recursive: true })
})

const callback = (event: InotifyEvent) => {
  events.push(event)
  for (const wake of waiting.splice(0)) wake()
}
const until = async (condition: () => boolean) => {
  while (!condition()) await new Promise<void>((resolve) => waiting.push(resolve))
}

test('the constants are those of the kernel headers', () => {
  const names = Object.entries(Inotify).filter(([name]) => name.startsWith('IN_'))
  const program = names.map(([name]) => `printf("%u ", (unsigned) ${name});`).join('')
  const binary = join(base, 'constants')
  const built = spawnSync('gcc', ['-xc', '-', '-o', binary], {
    input: `#include <stdio.h>\n#include <sys/inotify.h>\nint main() { ${program} }`,
  })
  expect(built.stderr.toString()).toBe('')
  const values = spawnSync(binary).stdout.toString().trim().split(' ').map(Number)
  expect(names.map(([, value]) => value)).toEqual(values)
})

test('a file that is created, renamed and removed, with the cookie of the rename', async () => {
  const watch = inotify.addWatch({
    path: base,
    watch_for: Inotify.IN_CREATE | Inotify.IN_MOVE | Inotify.IN_DELETE,
    callback,
  })
  expect(watch).toBeGreaterThan(0)
  writeFileSync(join(base, 'é'), '')
  renameSync(join(base, 'é'), join(base, 'b'))
  unlinkSync(join(base, 'b'))
  mkdirSync(join(base, 'd'))
  await until(() => events.length >= 5)
  expect(events.map((event) => [event.watch, event.mask, event.name])).toEqual([
    [watch, Inotify.IN_CREATE, 'é'],
    [watch, Inotify.IN_MOVED_FROM, 'é'],
    [watch, Inotify.IN_MOVED_TO, 'b'],
    [watch, Inotify.IN_DELETE, 'b'],
    [watch, Inotify.IN_CREATE | Inotify.IN_ISDIR, 'd'],
  ])
  expect(events[0]!.nameBytes).toEqual(Buffer.from('é'))
  expect(events[1]!.cookie).not.toBe(0)
  expect(events[1]!.cookie).toBe(events[2]!.cookie)
})

test('a name that is not UTF-8 is there as bytes', async () => {
  inotify.addWatch({ path: Buffer.from(base), watch_for: Inotify.IN_CREATE, callback })
  writeFileSync(Buffer.concat([Buffer.from(`${base}/`), Buffer.from([0xff, 0x0a])]), '')
  await until(() => events.length > 0)
  expect(events[0]!.nameBytes).toEqual(Buffer.from([0xff, 0x0a]))
})

test('an event on the watched path itself has no name; without a mask all events are watched', async () => {
  const file = join(base, 'f')
  writeFileSync(file, '')
  inotify.addWatch({ path: file, callback })
  writeFileSync(file, 'x')
  await until(() => events.some((event) => event.mask & Inotify.IN_CLOSE_WRITE))
  expect(events.every((event) => !('name' in event) && !('nameBytes' in event))).toBe(true)
})

test('each watch has its own callback, and removing one is confirmed', async () => {
  mkdirSync(join(base, 'one'))
  mkdirSync(join(base, 'two'))
  const others: InotifyEvent[] = []
  const one = inotify.addWatch({
    path: join(base, 'one'),
    watch_for: Inotify.IN_CREATE,
    callback: (e) => others.push(e),
  })
  const two = inotify.addWatch({ path: join(base, 'two'), watch_for: Inotify.IN_CREATE, callback })
  expect(two).not.toBe(one)
  expect(inotify.removeWatch(one)).toBe(true)
  writeFileSync(join(base, 'one/x'), '')
  writeFileSync(join(base, 'two/y'), '')
  await until(() => events.length > 0)
  expect(events.map((event) => event.name)).toEqual(['y'])
  expect(others.map((event) => event.mask)).toEqual([Inotify.IN_IGNORED])
  expect(() => inotify.removeWatch(one)).toThrow(expect.objectContaining({ code: 'EINVAL' }))
})

test('what cannot be watched throws with the errno', () => {
  const add = (path: string) => () => inotify.addWatch({ path, callback })
  expect(add(join(base, 'missing'))).toThrow(
    expect.objectContaining({ code: 'ENOENT', syscall: 'inotify_add_watch' }),
  )
  expect(add(`${base}\0/etc`)).toThrow(TypeError)
  expect(() => inotify.addWatch({ path: base } as never)).toThrow(TypeError)
  expect(() => inotify.addWatch({ path: base, watch_for: 0, callback })).toThrow(TypeError)
  expect(() => inotify.removeWatch('1' as never)).toThrow(TypeError)
})

test('an overflow reaches every callback', async () => {
  const limit = Number(spawnSync('sysctl', ['-n', 'fs.inotify.max_queued_events']).stdout)
  inotify.addWatch({ path: base, watch_for: Inotify.IN_CREATE, callback })
  const file = join(base, 'f')
  // Nothing is read while this loop runs. Different names: equal events in a row are merged.
  for (let i = 0; i <= limit / 2; i++) {
    writeFileSync(file + i, '')
    unlinkSync(file + i)
    writeFileSync(`${file}${i}b`, '')
    unlinkSync(`${file}${i}b`)
  }
  await until(() => events.some((event) => event.mask & Inotify.IN_Q_OVERFLOW))
  expect(events.find((event) => event.mask & Inotify.IN_Q_OVERFLOW)).toEqual({
    watch: -1,
    mask: Inotify.IN_Q_OVERFLOW,
    cookie: 0,
  })
}, 30_000)

test('after close nothing is called and nothing can be added', async () => {
  inotify.addWatch({ path: base, watch_for: Inotify.IN_CREATE, callback })
  const second = new Inotify()
  writeFileSync(join(base, 'x'), '')
  expect(inotify.close()).toBe(true)
  expect(inotify.close()).toBe(false)
  expect(() => inotify.addWatch({ path: base, callback })).toThrow(expect.objectContaining({ code: 'EBADF' }))
  const later = new Promise((resolve) =>
    second.addWatch({ path: base, watch_for: Inotify.IN_CREATE, callback: resolve }),
  )
  writeFileSync(join(base, 'y'), '')
  await later
  second.close()
  expect(events).toEqual([])
})

test('close in a callback, and a callback that throws', async () => {
  const project = fileURLToPath(new URL('../../..', import.meta.url))
  const run = (persistent: boolean) =>
    spawnSync(
      process.execPath,
      [
        '-e',
        `const native = require('node-gyp-build')(${JSON.stringify(project)})
        let calls = 0
        const raw = new native.Inotify(() => {
          if (++calls === 1) { require('fs').writeFileSync('b', ''); throw new Error('thrown') }
          console.log(calls)
          raw.close()
        }, ${persistent})
        process.on('uncaughtException', (error) => console.log(error.message))
        raw.addWatch(process.cwd(), 0x100)
        require('fs').writeFileSync('a', '')`,
      ],
      { cwd: base, env: { ...process.env, NODE_PATH: `${project}/node_modules` }, timeout: 10_000 },
    )
  const kept = run(true)
  expect(kept.stdout.toString()).toBe('thrown\n2\n')
  expect(kept.status).toBe(0)
  // Not persistent: the process has nothing to wait for.
  expect(run(false).status).toBe(0)
})
