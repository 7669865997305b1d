// SPDX-License-Identifier: MIT
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import {
  closeSync,
  constants,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, describe, expect, it } from 'vitest'
import { fromBuffer, fromText } from '../../../src/bytes.js'
import { type MappedFile, native, type ProcessFacts } from '../../../src/native.js'
import { lane } from './kernel.js'

const base = mkdtempSync(join(tmpdir(), 'lowerwatch-processes-'))
afterAll(() => rmSync(base, { recursive: true }))

const hasPython = spawnSync('python3', ['-c', '']).status === 0
const whyNoPython = hasPython ? '' : '(no python3 to map files with)'

// O_ACCMODE, which node does not name.
const accessMode = constants.O_RDONLY | constants.O_WRONLY | constants.O_RDWR

const children: ChildProcess[] = []
afterEach(async () => {
  for (const child of children.splice(0)) {
    if (child.exitCode !== null || child.signalCode !== null) continue
    child.kill('SIGKILL')
    await once(child, 'close')
  }
})

/** A program that says that it is ready by a line, and then waits for its input to end. */
async function start(program: string, args: string[], options: { uid?: number; cwd?: string } = {}) {
  const child = spawn(program, args, { ...options, stdio: ['pipe', 'pipe', 'inherit'] })
  children.push(child)
  await once(child.stdout, 'data')
  return child
}

describe('processes', () => {
  const on = lane()

  async function factsOf(pid: number, maps = true): Promise<ProcessFacts> {
    const [facts, ...others] = await native.processes(on, [pid], { maps })
    expect(others).toEqual([])
    expect(facts?.pid).toBe(pid)
    return facts!
  }

  it('lists what /proc lists', async () => {
    const pids = await native.processIds(on)
    expect(pids).toContain(process.pid)
    expect(pids).toContain(process.ppid)
    const listed = new Set(readdirSync('/proc'))
    // Those that started or ended in between.
    expect(pids.filter((pid) => !listed.has(String(pid))).length).toBeLessThan(pids.length / 2)
  })

  it('reads links, the command and the mount table of this process as node does', async () => {
    expect(await factsOf(process.pid)).toMatchObject({
      unreadable: false,
      command: readFileSync('/proc/self/comm', 'latin1').replace(/\n$/, ''),
      mountNamespace: readlinkSync('/proc/self/ns/mnt'),
      root: '/',
      cwd: fromText(process.cwd()),
    })
    const { mountTable } = await factsOf(process.pid)
    const points = (table: string) => table.split('\n').map((line) => line.split(' ')[4])
    expect(points(mountTable ?? '')).toContain('/proc')
  })

  it('gives each mount table once', async () => {
    const same = await native.processes(on, [process.pid, process.pid], { maps: false })
    expect(same.map(({ mountTable }) => mountTable !== null)).toEqual([true, false])
  })

  it('tells the number, mount, flags and link of an open file, whatever bytes its name has', async () => {
    const name = Buffer.from(`${base}/a\xff\n\\012 (deleted)`, 'latin1')
    const flags = constants.O_RDWR | constants.O_CREAT | constants.O_APPEND
    const file = openSync(name, flags)
    const directory = openSync(base, constants.O_RDONLY | constants.O_DIRECTORY)
    const procfs = openSync('/proc/self/mountinfo', 'r')
    try {
      const { descriptors } = await factsOf(process.pid, false)
      const find = (fd: number) => descriptors.find(({ number }) => number === fd)
      const mountId = (fd: number) =>
        Number(/mnt_id:\s*(\d+)/.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1'))?.[1])
      expect(find(file)).toMatchObject({ link: fromBuffer(name), mountId: mountId(file) })
      expect(find(file)!.flags & (accessMode | constants.O_APPEND)).toBe(
        constants.O_RDWR | constants.O_APPEND,
      )
      expect(find(directory)).toMatchObject({ link: fromText(base), mountId: mountId(directory) })
      expect(find(directory)!.flags & constants.O_DIRECTORY).toBe(constants.O_DIRECTORY)
      expect(find(procfs)!.link).toBe(`/proc/${process.pid}/mountinfo`)
      // The event loop has pipes and an epoll descriptor: they have no path.
      expect(descriptors.every(({ link }) => link.startsWith('/'))).toBe(true)
    } finally {
      for (const fd of [file, directory, procfs]) closeSync(fd)
    }
    const { descriptors } = await factsOf(process.pid, false)
    expect(descriptors.some(({ number, link }) => number === file && link === fromBuffer(name))).toBe(false)
  })

  it('names each mapped file once, and is the same object for all who map it', async () => {
    const child = await start('sh', ['-c', 'echo ready; read line'])
    const library = (facts: ProcessFacts | undefined): MappedFile | undefined =>
      facts?.mapped.find(({ path }) => /\/libc[.-]/.test(path))
    const [own, other] = await native.processes(on, [process.pid, child.pid!], { maps: true })
    for (const { mapped } of [own!, other!])
      expect(new Set(mapped.map(({ path }) => path)).size).toBe(mapped.length)
    expect(library(own)).toBeDefined()
    expect(library(other)).toBe(library(own))
    expect(own!.mapped.map(({ path }) => path)).toContain(fromText(process.execPath))
    expect(own!.mapped.every(({ path }) => path.startsWith('/'))).toBe(true)
    expect((await factsOf(process.pid, false)).mapped).toEqual([])
  })

  it.skipIf(!hasPython)(
    `tells names with a newline from names with its escape; leaves out memory ${whyNoPython}`,
    async () => {
      const script = [
        'import mmap, os, sys',
        'held = []',
        'for name in (b"a\\xff\\nb", b"a\\xff\\\\012b"):',
        '  path = os.fsencode(sys.argv[1]) + b"/" + name',
        '  with open(path, "wb+") as file:',
        '    file.write(b"x" * 4096); file.flush(); held.append(mmap.mmap(file.fileno(), 4096))',
        'memory = os.memfd_create("nothing"); os.ftruncate(memory, 4096); held.append(mmap.mmap(memory, 4096))',
        'print("ready", flush=True); sys.stdin.read()',
      ].join('\n')
      const child = await start('python3', ['-c', script, base], { cwd: base })
      const facts = await factsOf(child.pid!)
      expect(facts.cwd).toBe(fromText(base))
      const prefix = `${base}/a`
      const mapped = facts.mapped.filter(({ path }) => path.startsWith(prefix))
      expect(mapped.map(({ path }) => path.slice(prefix.length)).sort()).toEqual(['\xff\nb', '\xff\\012b'])
      const { dev } = statSync(base)
      // makedev(3) for small numbers.
      for (const { devMajor, devMinor } of mapped)
        expect([devMajor, devMinor]).toEqual([(dev >> 8) & 0xfff, (dev & 0xff) | ((dev >> 12) & 0xfff00)])
      expect(facts.descriptors.filter(({ link }) => link.startsWith('/memfd:'))).toEqual([])
    },
  )

  it('leaves out who is gone', async () => {
    const child = await start('sh', ['-c', 'echo ready; read line'])
    child.stdin!.end()
    await once(child, 'close')
    const found = await native.processes(on, [child.pid!, process.pid], { maps: true })
    expect(found.map(({ pid }) => pid)).toEqual([process.pid])
  })

  it.skipIf(process.getuid?.() !== 0)(
    'says so of who may not be read, and reads the others (needs root, to become somebody else)',
    () => {
      const script = `
        const native = require('node-gyp-build')(process.argv[1])
        const lane = new native.Lane('test')
        native.processes(lane, [Number(process.argv[2]), process.pid], { maps: true }).then((found) => {
          console.log(JSON.stringify(found.map(({ unreadable, descriptors }) => [unreadable, descriptors.length])))
          lane.close()
        })`
      // Loaded as root, because the checkout may be closed to others.
      const become = `process.setgroups([]); process.setgid(65534); process.setuid(65534);`
      const { stdout, stderr } = spawnSync(
        process.execPath,
        ['-e', script.replace('const lane', `${become}\nconst lane`), process.cwd(), String(process.pid)],
        { encoding: 'utf8' },
      )
      expect(stderr).toBe('')
      expect(JSON.parse(stdout)).toEqual([
        [true, 0],
        [false, expect.any(Number)],
      ])
    },
  )

  it.skipIf(!hasPython)(
    `goes on after a directory whose path is longer than a page ${whyNoPython}`,
    async () => {
      const script = [
        'import os, sys',
        'os.chdir(sys.argv[1])',
        'for _ in range(20):',
        '  os.mkdir("x" * 250); os.chdir("x" * 250)',
        'print("ready", flush=True); sys.stdin.read()',
      ].join('\n')
      mkdirSync(join(base, 'deep'))
      const child = await start('python3', ['-c', script, join(base, 'deep')])
      const facts = await factsOf(child.pid!)
      expect(facts).toMatchObject({ unreadable: true, cwd: '', root: '/' })
      expect(facts.mapped.length).toBeGreaterThan(0)
      spawnSync('rm', ['-rf', join(base, 'deep')])
    },
  )
})
