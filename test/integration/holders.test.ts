// SPDX-License-Identifier: MIT
import { spawn, spawnSync } from 'node:child_process'
import {
  closeSync,
  constants,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  rmdirSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { afterEach, describe, expect, it } from 'vitest'
import { findHolders } from '../../src/coherence/holders.js'
import { native } from '../../src/native.js'
import type { Holder } from '../../src/overlay/types.js'
import { mountStage, open, type Stage, scratch, stage, whyNo } from './check-stage.js'
import { Actor } from './fixture/actor.js'
import { hasProgram, inUserNamespace, run } from './fixture/environment.js'

const noFuse = existsSync('/dev/fuse') && !inUserNamespace ? '' : '(skipped: needs real root and /dev/fuse)'
const after = (ms: number) =>
  new Promise<string>((resolve) => setTimeout(resolve, ms, `nothing within ${ms} ms`))

const actors: Actor[] = []
afterEach(async () => {
  for (const actor of actors.splice(0)) await actor.stop()
})

function actor(): Actor {
  const made = new Actor()
  actors.push(made)
  return made
}

async function holdersOf(at: Stage, pid: number): Promise<Omit<Holder, 'command'>[]> {
  const { holders } = await findHolders(await open(at.merged))
  return holders.filter((holder) => holder.pid === pid).map(({ command: _, ...rest }) => rest)
}

/** Runs a shell that says `ready`, and is ended when the test is over. */
async function shell(program: string, ...args: string[]): Promise<number> {
  const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit'] })
  const ended = new Promise((resolve) => child.once('close', resolve))
  shells.push(async () => {
    child.stdin.end()
    await ended
  })
  for await (const line of createInterface({ input: child.stdout })) return Number(line)
  throw new Error(`${program} ended`)
}
const shells: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const end of shells.splice(0)) await end()
})

describe('holders', () => {
  const base = scratch()

  const ready = (): Stage => {
    const at = stage(base, 'tmpfs')
    mkdirSync(join(at.lower, 'd/sub'), { recursive: true })
    writeFileSync(join(at.lower, 'd/file'), 'content')
    mountStage(at)
    return at
  }
  const path = (at: Stage, name: string) => Buffer.from(join(at.merged, name))

  it('finds open files and directories, the working directory, and mapped files of another process', async () => {
    const at = ready()
    const child = actor()
    const directory = await child.open(path(at, 'd'))
    const file = await child.open(path(at, 'd/file'))
    const root = await child.open(path(at, ''))
    await child.chdir(path(at, 'd/sub'))
    await child.map(path(at, 'd/file'))
    const { pid } = child
    const same = { pid, deleted: false }
    expect(await holdersOf(at, pid)).toEqual([
      { ...same, via: 'cwd', fd: null, path: 'd/sub', directory: true },
      { ...same, via: 'fd', fd: directory, path: 'd', directory: true },
      { ...same, via: 'fd', fd: file, path: 'd/file', directory: false },
      { ...same, via: 'fd', fd: root, path: '', directory: true },
      { ...same, via: 'map', fd: null, path: 'd/file', directory: false },
    ])
    const { holders } = await findHolders(await open(at.merged), { paths: ['d/sub'] })
    expect(holders.map(({ via, command }) => [via, command])).toEqual([['cwd', 'actor']])
    const directories = (await findHolders(await open(at.merged), { directoriesOnly: true })).holders
    expect(directories.every((holder) => holder.directory)).toBe(true)
  })

  it('does not name itself for what it opens to look', async () => {
    const at = ready()
    expect(await holdersOf(at, process.pid)).toEqual([])
    const held = openSync(join(at.merged, 'd'), constants.O_RDONLY)
    try {
      expect(await holdersOf(at, process.pid)).toMatchObject([{ fd: held, path: 'd' }])
    } finally {
      closeSync(held)
    }
  })

  it('keeps names that are not text, and tells a dropped dentry from a name that ends in " (deleted)"', async () => {
    const at = ready()
    const odd = Buffer.from('a\xff\n\\012 (deleted)', 'latin1')
    const gone = Buffer.from('gone')
    const child = actor()
    for (const name of [odd, gone]) {
      const file = Buffer.concat([Buffer.from(`${at.merged}/`), name])
      writeFileSync(file, 'x')
      await child.open(file)
      await child.map(file)
    }
    unlinkSync(join(at.merged, 'gone'))
    const found = await holdersOf(at, child.pid)
    expect(found.map(({ via, path: name, deleted }) => [via, name, deleted]).sort()).toEqual([
      ['fd', odd.toString('latin1'), false],
      ['fd', 'gone', true],
      ['map', odd.toString('latin1'), false],
      ['map', 'gone', true],
    ])
  })

  it.skipIf(noFuse !== '')(`is not stopped by a file system that never answers ${noFuse}`, async () => {
    const at = ready()
    const hung = join(at.base, 'hung')
    mkdirSync(hung)
    const server = openSync('/dev/fuse', constants.O_RDWR)
    let held = -1
    try {
      // Nobody reads what is asked there: each question waits until the last descriptor of the server is closed.
      const options = 'fd=3,rootmode=40000,user_id=0,group_id=0'
      const stdio = ['ignore', 'inherit', 'inherit', server] as const
      const { status } = spawnSync('mount', ['-i', '-t', 'fuse', '-o', options, 'none', hung], {
        stdio: [...stdio],
      })
      expect(status).toBe(0)
      const oPath = 0o10000000
      held = openSync(hung, oPath)
      run('umount', '--lazy', hung)
      const child = actor()
      const fd = await child.open(path(at, 'd'))
      const found = await Promise.race([holdersOf(at, child.pid), after(5_000)])
      expect(found).toMatchObject([{ via: 'fd', fd, path: 'd' }])
    } finally {
      closeSync(server)
      if (held !== -1) closeSync(held)
    }
  })

  it('sees through bind mounts of a sub-directory', async () => {
    const at = ready()
    const bind = join(at.base, 'bind')
    mkdirSync(bind)
    run('mount', '--bind', join(at.merged, 'd'), bind)
    const child = actor()
    const fd = await child.open(Buffer.from(join(bind, 'sub')))
    await child.chdir(Buffer.from(bind))
    expect(await holdersOf(at, child.pid)).toMatchObject([
      { via: 'cwd', path: 'd' },
      { via: 'fd', fd, path: 'd/sub' },
    ])
  })

  it('sees into other mount namespaces, where the overlay is mounted elsewhere', async () => {
    const at = ready()
    const elsewhere = join(at.base, 'elsewhere')
    mkdirSync(elsewhere)
    const script = 'mount --move "$1" "$2" && cd "$2/d" && exec 7<file && echo $$ && read line'
    const pid = await shell(
      'unshare',
      '-m',
      '--propagation',
      'private',
      'sh',
      '-c',
      script,
      'sh',
      at.merged,
      elsewhere,
    )
    expect(await holdersOf(at, pid)).toMatchObject([
      { via: 'cwd', path: 'd' },
      { via: 'fd', fd: 7, path: 'd/file' },
    ])
  })

  it.skipIf(!hasProgram('perl'))('finds a root directory, and what a process below it holds', async () => {
    const at = ready()
    const program = 'chroot shift or die; chdir "/d"; open F, "/d/file"; $| = 1; print "$$\\n"; <STDIN>'
    const pid = await shell('perl', '-e', program, at.merged)
    expect(await holdersOf(at, pid)).toMatchObject([
      { via: 'cwd', path: 'd' },
      { via: 'root', path: '' },
      { via: 'fd', path: 'd/file' },
    ])
  })

  it('finds what is held through a detached mount', async () => {
    const at = ready()
    const lane = new native.Lane('detached')
    const clone = await native.openTree(lane, at.merged, { clone: true })
    const kept = await native.openBeneath(lane, clone, 'd', constants.O_RDONLY | constants.O_DIRECTORY)
    expect(await holdersOf(at, process.pid)).toMatchObject([{ via: 'fd', fd: kept.fd, path: 'd' }])
    kept.close()
    clone.close()
    expect(await holdersOf(at, process.pid)).toEqual([])
    lane.close()
  })

  it.skipIf(whyNo('cgroup2') !== '')(
    `finds who holds a cgroup that is gone ${whyNo('cgroup2')}`,
    async () => {
      const at = stage(base, 'cgroup2')
      mkdirSync(join(at.lower, 'dead'))
      mountStage(at)
      const child = actor()
      const fd = await child.open(path(at, 'dead'))
      await child.chdir(path(at, 'dead'))
      rmdirSync(join(at.lower, 'dead'))
      expect(await holdersOf(at, child.pid)).toMatchObject([
        { via: 'cwd', path: 'dead', directory: true },
        { via: 'fd', fd, path: 'dead', directory: true },
      ])
      await child.chdir('/')
      await child.close(fd)
    },
  )

  it('is quick', async () => {
    const at = ready()
    const overlay = await open(at.merged)
    const processes = readdirSync('/proc').filter((name) => /^\d+$/.test(name)).length
    const startedAt = performance.now()
    await findHolders(overlay)
    expect((performance.now() - startedAt) / processes).toBeLessThan(5)
  })
})
