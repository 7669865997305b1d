// SPDX-License-Identifier: MIT

import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Build } from '../../src/kernel/build.js'
import { compareVersions } from '../../src/kernel/series.js'
import { compile, debug, guest, kernelFor, quick, sharedDirectory, versionsWith } from './guest.js'

/** Rows of kernfs-events: case and listener -> events, in the order they came. */
type Table = Map<string, string[]>

const withKernfs = await versionsWith('kernfs')

const hammerSeconds = debug ? 60 : 10

let shared: Awaited<ReturnType<typeof sharedDirectory>>
let events: string
let hammer: string

beforeAll(async () => {
  shared = await sharedDirectory()
  events = await compile('kernfs-events.c', shared.path)
  hammer = await compile('kernfs-hammer.c', shared.path)
})

afterAll(async () => {
  await shared[Symbol.asyncDispose]()
})

async function table(build: Build): Promise<Table> {
  const run = await guest(build, [events], [...quick, 'psi=1'])
  expect(run.stderr).toBe('')
  expect(run.status).toBe(0)
  expect(run.splats).toEqual([])
  const rows: Table = new Map()
  for (const line of run.stdout.trimEnd().split('\n')) {
    const [name, listener, list] = line.split('\t')
    rows.set(`${name}, ${listener}`, list?.trim() ? list.trim().split(' ') : [])
  }
  return rows
}

/** The same events, whatever their order: a directory's files come in the order of their hashes. */
const sorted = (list: string[] | undefined) => [...(list ?? ['no such row'])].sort()

describe.each(withKernfs)('kernfs events on %s', (version) => {
  const byHandle = compareVersions(version, '6.6') >= 0
  const noHandle = 'kernfs has no file system id before 6.6, so nothing is reported by file handle'
  let stock: Table
  let patched: Table
  let files: string[]
  let queues: string[]
  beforeAll(async () => {
    stock = await table(await kernelFor(version, 'stock'))
    patched = await table(await kernelFor(version, 'patched', 'kernfs'))
    files = patched.get('controller files, readdir') ?? []
    expect(files).toContain('pids.max')
    queues = (patched.get('net device queues, readdir') ?? []).filter((name) => !name.startsWith('.'))
    expect(queues).toContain('tx-0')
  }, 120_000)

  const of = (event: string, ...dirs: string[]) =>
    dirs.flatMap((dir) => files.map((f) => `${event}:${dir}/${f}`))
  const both = (row: string) => [`${row}, inotify`, `${row}, fanotify`]

  /** What the kernel does by itself: nothing on stock, this on patched. */
  const kernelMade: [string, () => string[]][] = [
    ['controllers on, inotify', () => of('CREATE', 'cached')],
    ['controllers off, inotify', () => of('DELETE', 'cached')],
    ['controllers on, fanotify', () => of('CREATE', 'cached', 'fresh')],
    ['controllers off, fanotify', () => of('DELETE', 'cached', 'fresh')],
    ['two mounts, first, inotify', () => of('CREATE', 'cached')],
    ['two mounts, first, fanotify', () => of('CREATE', 'cached', 'fresh')],
    ['two mounts, second, inotify', () => of('CREATE', 'cached')],
    ['two mounts, second, fanotify', () => of('CREATE', 'cached', 'fresh')],
    ['two mounts, first, off, inotify', () => of('DELETE', 'cached')],
    ['two mounts, first, off, fanotify', () => of('DELETE', 'cached', 'fresh')],
    ['two mounts, second, off, inotify', () => of('DELETE', 'cached')],
    ['two mounts, second, off, fanotify', () => of('DELETE', 'cached', 'fresh')],
    ['cgroup namespace, inotify', () => of('CREATE', 'namespace')],
    ['cgroup namespace, fanotify', () => of('CREATE', 'namespace', 'cached')],
    ['cgroup namespace, off, inotify', () => of('DELETE', 'namespace')],
    ['cgroup namespace, off, fanotify', () => of('DELETE', 'namespace', 'cached')],
  ]
  const madeForBoth: [string, () => string[]][] = [
    ['controllers on, queue of as many', () => of('CREATE', 'cached')],
    ['controllers off, queue of as many', () => of('DELETE', 'cached')],
    ['device added', () => ['CREATE+DIR:devices/loop77', 'CREATE:block/loop77']],
    ['device removed', () => ['DELETE+DIR:devices/loop77', 'DELETE:block/loop77']],
    [
      'net device renamed, here',
      () => [
        'MOVED_FROM+DIR:devices/dummy0',
        'MOVED_FROM:class/dummy0',
        'MOVED_TO+DIR:devices/other0',
        'MOVED_TO:class/other0',
      ],
    ],
    ['net device moved away, here', () => ['DELETE+DIR:devices/other0', 'DELETE:class/other0']],
    ['net device moved away, other namespace', () => ['CREATE+DIR:devices/other0', 'CREATE:class/other0']],
    [
      'below a net device removed elsewhere, there',
      () => queues.map((queue) => `DELETE+DIR:queues/${queue}`),
    ],
  ]
  for (const [row, expected] of madeForBoth) for (const name of both(row)) kernelMade.push([name, expected])
  it.for(kernelMade)('%s: silence on stock, all of it on patched', ([row, expected], { skip }) => {
    if (row.endsWith(', fanotify') && !byHandle) skip(noHandle)
    expect(stock.get(row)).toEqual([])
    expect(sorted(patched.get(row))).toEqual(expected().sort())
  })

  it('reports files that are hidden and shown', () => {
    const pressure = (patched.get('pressure files, readdir') ?? []).filter((f) => f.endsWith('.pressure'))
    const affected = pressure.filter((f) => f !== 'cgroup.pressure')
    expect(affected).not.toEqual([])
    expect(stock.get('files hidden, inotify')).toEqual([])
    expect(sorted(patched.get('files hidden, inotify'))).toEqual(affected.map((f) => `DELETE:t/${f}`).sort())
    expect(sorted(patched.get('files shown, inotify'))).toEqual(affected.map((f) => `CREATE:t/${f}`).sort())
  })

  it('takes a mark, or says that there is no file system id', () => {
    expect(stock.get('mark, fanotify')).toEqual(byHandle ? undefined : ['ENODEV'])
  })

  it('keeps the order of changes', () => {
    const list = patched.get('controllers on, off, on, off, inotify') ?? []
    for (const file of files) {
      const own = list.filter((event) => event.endsWith(`/${file}`)).map((event) => event.split(':')[0])
      expect(own, file).toEqual(['CREATE', 'DELETE', 'CREATE', 'DELETE'])
    }
    const rename = patched.get('net device renamed, here, inotify') ?? []
    expect(rename.indexOf('MOVED_TO:class/other0')).toBe(rename.indexOf('MOVED_FROM:class/dummy0') + 1)
  })

  /** What a user does: the VFS reports it, on both kernels the same and once. */
  it.for([
    ['mkdir by user, inotify', ['CREATE+DIR:t/user']],
    ['mkdir by user, fanotify', ['CREATE+DIR:t/user']],
    ['rmdir by user, fanotify', ['DELETE+DIR:t/user']],
    ['mkdir and rmdir with controllers, inotify', ['CREATE+DIR:t/user', 'DELETE+DIR:t/user']],
    ...['', ' with controllers'].flatMap((how) => [
      ...both(`mkdir${how}, queue of one`).map((row) => [row, ['CREATE+DIR:t/user']]),
      ...both(`rmdir${how}, queue of one`).map((row) => [row, ['DELETE+DIR:t/user']]),
    ]),
    ['rename by user, inotify', ['MOVED_FROM+DIR:v1/a', 'MOVED_TO+DIR:v1/b', 'MOVE_SELF:a']],
    ['rename by user, fanotify', ['RENAME+DIR:v1/a', 'MOVED_FROM+DIR:v1/a', 'MOVED_TO+DIR:v1/b']],
  ] as [string, string[]][])('%s: once, as on stock', ([row, expected], { skip }) => {
    if (row.endsWith(', fanotify') && !byHandle) skip(noHandle)
    expect(stock.get(row)).toEqual(expected)
    expect(patched.get(row)).toEqual(expected)
  })

  it('does not report the files of a cgroup that a user removes', () => {
    expect(patched.get('rmdir by user, inotify')).toEqual(stock.get('rmdir by user, inotify'))
    expect(patched.get('rmdir by user, inotify')).toContain('DELETE+DIR:t/user')
  })

  /** Who listens elsewhere: told of what a user does there, which shows that it listens, and of nothing else. */
  it.for(
    [
      ['watched above', 'top'],
      ['watched below', 'below'],
      ['watched beside', 'u/cached'],
      ['watched in another hierarchy', 'v1/t'],
      ['watched until now', 'cached'],
      ['watched before it was made again', 'again'],
    ].flatMap(([row, where]) =>
      both('').map((listener) => [row, listener, where] as [string, string, string]),
    ),
  )('%s%s: its own, and nothing of what the kernel does', ([row, listener, where], { skip }) => {
    if (listener === ', fanotify' && !byHandle) skip(noHandle)
    for (const kernel of [stock, patched]) {
      expect(kernel.get(`${row}, its own${listener}`)).toEqual([
        `CREATE+DIR:${where}/own`,
        `DELETE+DIR:${where}/own`,
      ])
      expect(kernel.get(`${row}${listener}`)).toEqual([])
    }
  })

  it.for(
    [
      'device added and removed elsewhere',
      'net device renamed, above',
      'net device renamed, other namespace',
      'below a net device moved away',
      'below a net device removed elsewhere, where it was',
    ].flatMap(both),
  )('%s: nothing', (row, { skip }) => {
    if (row.endsWith(', fanotify') && !byHandle) skip(noHandle)
    expect(stock.get(row)).toEqual([])
    expect(patched.get(row)).toEqual([])
  })

  /** An event takes inodes that live for the time of the call, and what nobody looks up stays out of memory. */
  it.for([
    ...[
      'nobody watches',
      'another directory is watched',
      'a directory is watched',
      'the file system is watched',
    ].flatMap((who) => [
      `${who}, files came and went`,
      `${who}, files in new directories`,
      `${who}, directories removed`,
    ]),
    'nobody reads',
  ])('%s: nothing more in memory', (row) => {
    expect(stock.get(`${row}, memory`)).toEqual(['inodes:+0', 'dentries:+0'])
    expect(patched.get(`${row}, memory`)).toEqual(['inodes:+0', 'dentries:+0'])
  })
})

describe.each(withKernfs)('the kernfs series on %s', (version) => {
  it('passes its own selftest, which fails on stock', async () => {
    const patched = await kernelFor(version, 'patched', 'kernfs')
    const selftests = `${patched.directory}/tools/testing/selftests`
    const source = `${selftests}/filesystems/kernfs_notify_test.c`
    const program = await compile(source, shared.path, ['-I', selftests])
    const good = await guest(patched, [program])
    expect(good.stdout).toMatch(/pass:4 fail:0 xfail:0 xpass:0 skip:0 error:0/)
    const bad = await guest(await kernelFor(version, 'stock'), [program])
    expect(bad.stdout).toMatch(/pass:1 fail:3 xfail:0 xpass:0 skip:0 error:0/)
  }, 120_000)

  it('survives everything at once', async () => {
    const run = await guest(
      await kernelFor(version, 'patched', 'kernfs'),
      [hammer, String(hammerSeconds)],
      ['psi=1'],
    )
    expect(run.splats).toEqual([])
    expect(run.status).toBe(0)
  }, 300_000)
})
