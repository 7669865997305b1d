// SPDX-License-Identifier: MIT

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, open, readdir, readFile, writeFile } from 'node:fs/promises'
import { PassThrough } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { describe, expect, it, vi } from 'vitest'
import { boot } from '../../src/kernel/boot.js'
import { cacheRoot } from '../../src/kernel/cache.js'
import { compareVersions, versions } from '../../src/kernel/series.js'
import { debug, guest, kernelFor, sharedDirectory } from './guest.js'

const sink = () => new PassThrough().resume()
const program = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url))
const terminal = fileURLToPath(new URL('terminal.py', import.meta.url))

/** `lowerwatch kernel boot` and its arguments. */
function bootWords(version: string, argv: string[]): string[] {
  const options = ['--version', version, '--stock', ...(debug === undefined ? [] : ['--debug', debug])]
  return [program, 'kernel', 'boot', ...options, '--', ...argv]
}

/** `stdout` is a file descriptor or 'pipe'. */
function bootCommand(version: string, argv: string[], stdout: number | 'pipe') {
  return spawn(process.execPath, bootWords(version, argv), {
    stdio: ['ignore', stdout, 'pipe'],
    env: { ...process.env, LOWERWATCH_DEBUG: '' },
  })
}

/** The same on a terminal; `how` it ends is what terminal.py takes. */
async function bootOnTerminal(version: string, argv: string[], how: string) {
  const words = [terminal, how, process.execPath, ...bootWords(version, argv)]
  const child = spawn('python3', words, { stdio: ['ignore', 'pipe', 'pipe'], detached: true })
  try {
    const outputs = [child.stdout, child.stderr].map((stream) => stream.setEncoding('utf8').toArray())
    const [status] = await once(child, 'exit')
    const [said, errors] = (await Promise.all(outputs)).map((chunks) => chunks.join(''))
    expect({ status, errors }).toEqual({ status: 0, errors: '' })
    return JSON.parse(said!)
  } finally {
    // The program is in the same group, and its kernel goes with it.
    if (child.pid !== undefined) killGroup(child.pid)
  }
}

function killGroup(pid: number) {
  try {
    process.kill(-pid, 'SIGKILL')
  } catch (error) {
    expect(error).toMatchObject({ code: 'ESRCH' })
  }
}

/** What is left in the cache of a boot by the process with this pid. */
const leftOf = async (pid: number | undefined) =>
  (await readdir(`${cacheRoot()}/boot`)).filter((name) => name.startsWith(`${pid}-`))

const asked = (process.env.LOWERWATCH_KERNEL_VERSIONS ?? '').split(' ').filter((version) => version !== '')

describe.each((await versions()).filter((v) => asked.length === 0 || asked.includes(v)))(
  'boot of %s',
  (version) => {
    it('runs Node in the kernel it says', async () => {
      const run = await guest(await kernelFor(version, 'stock'), [process.execPath, '-p', 'os.release()'])
      expect(run).toEqual({
        status: 0,
        splats: [],
        stderr: '',
        stdout: expect.stringMatching(`^${version}\\.`),
      })
    }, 60_000)

    it('passes exit status, both outputs and every byte through', async () => {
      const script = `process.stdout.write(Buffer.from([...Array(256).keys()]));
      console.error('%s', process.argv[1]); process.exitCode = 42`
      const run = await guest(await kernelFor(version, 'stock'), [
        process.execPath,
        '-e',
        script,
        `a'b "$(c)`,
      ])
      expect(run.stdout).toBe(Buffer.from([...Array(256).keys()]).toString('latin1'))
      expect(run.stderr).toBe(`a'b "$(c)\n`)
      expect(run.status).toBe(42)
    }, 60_000)

    it('can be ended, and returns when nobody holds its outputs any more', async () => {
      const build = await kernelFor(version, 'stock')
      const abort = new AbortController()
      const [stdout, stderr] = [new PassThrough(), new PassThrough().resume()]
      stdout.once('data', () => abort.abort())
      const argv = ['sh', '-c', 'echo up; sleep 1000']
      await expect(boot({ build, argv, stdout, stderr, signal: abort.signal })).rejects.toThrow('was ended')
    }, 60_000)

    it('shows the last words of a kernel that panics', async () => {
      const build = await kernelFor(version, 'stock')
      const request = { build, argv: ['true'], append: ['init=/nonexistent'], stdout: sink(), stderr: sink() }
      await expect(boot(request)).rejects.toThrow(/Kernel panic[\s\S]*init/)
    }, 60_000)

    it('ends with the command, whatever the command leaves behind, and passes all of its output', async () => {
      const lines = 'i=0; while [ $i -lt 20000 ]; do i=$((i + 1)); echo $i; done'
      const left = 'sleep 1000 & yes left >&2 &'
      const run = await guest(await kernelFor(version, 'stock'), ['sh', '-c', `${left} ${lines}; exit 5`])
      expect(run.stdout).toBe(Array.from({ length: 20_000 }, (_, i) => `${i + 1}\n`).join(''))
      expect('left\n'.repeat(run.stderr.length).startsWith(run.stderr)).toBe(true)
      expect(run.status).toBe(5)
    }, 60_000)

    // Before 6.5 inodes of hostfs are not hashed, so that writeback does not know them: only the last close(2) writes.
    if (compareVersions(version, '6.5') >= 0)
      it('keeps what is in a file that somebody has mapped at the end', async () => {
        await using directory = await sharedDirectory()
        const file = `${directory.path}/file`
        await writeFile(file, Buffer.alloc(4096))
        // hostfs writes by itself what comes by write(2), and the rest when the last process closes the file.
        const script = `import mmap, os, sys, time
file = open(sys.argv[1], 'r+b')
mmap.mmap(file.fileno(), 0)[:4] = b'kept'
os.fork() or time.sleep(1000)`
        const argv = ['python3', '-c', script, file]
        expect(await guest(await kernelFor(version, 'stock'), argv)).toMatchObject({ status: 0, stderr: '' })
        expect((await readFile(file, 'latin1')).slice(0, 4)).toBe('kept')
      }, 60_000)

    it('runs programs and nothing that its own shell would do', async () => {
      const run = await guest(await kernelFor(version, 'stock'), ['exit', '3'])
      expect(run).toMatchObject({ status: 127, stderr: expect.stringMatching(/exit: not found/) })
    }, 60_000)

    it.each(['below /tmp', 'elsewhere'])(
      'does not run the command where its directory is gone when the kernel is up, %s',
      async (place) => {
        const build = await kernelFor(version, 'stock')
        await using directory = await sharedDirectory()
        const root = `${directory.path}/cache`
        const cwd = await mkdtemp(place === 'elsewhere' ? `${directory.path}/cwd-` : '/tmp/lowerwatch-cwd-')
        const [init, ran] = [`${directory.path}/init`, `${directory.path}/ran`]
        await writeFile(init, `#!/bin/sh\nrmdir ${cwd}\nexec sh ${root}/boot/*/init\n`, { mode: 0o700 })
        const argv = ['touch', ran]
        const request = { build, argv, cwd, append: [`init=${init}`], stdout: sink(), stderr: sink() }
        await expect(boot(request, root)).rejects.toThrow(`${cwd} is not there any more`)
        expect(await readdir(directory.path)).not.toContain('ran')
      },
      60_000,
    )

    it('leaves nothing on the machine: no record of a shutdown, no files of its own', async () => {
      const build = await kernelFor(version, 'stock')
      await using directory = await sharedDirectory()
      const { path } = directory
      await writeFile(`${path}/wtmp`, '')
      vi.stubEnv('HOME', path)
      try {
        const argv = ['mount', '--bind', `${path}/wtmp`, '/var/log/wtmp']
        await boot({ build, argv, stdout: sink(), stderr: sink() }, `${path}/cache`)
        const abort = new AbortController()
        const stdout = sink().once('data', () => abort.abort())
        const ended = { build, argv: ['sh', '-c', 'echo up; sleep 1000'], stdout, stderr: sink() }
        await expect(boot({ ...ended, signal: abort.signal }, `${path}/cache`)).rejects.toThrow('was ended')
      } finally {
        vi.unstubAllEnvs()
      }
      expect(await readFile(`${path}/wtmp`, 'latin1')).toBe('')
      expect((await readdir(path)).sort()).toEqual(['cache', 'wtmp'])
      expect(await readdir(`${path}/cache/boot`)).toEqual([])
    }, 60_000)

    it('ends like a program ended by SIGPIPE when its reader goes away, and cleans up', async () => {
      await kernelFor(version, 'stock')
      const child = bootCommand(version, ['sh', '-c', 'while echo y; do :; done'], 'pipe')
      const errors = child.stderr!.setEncoding('utf8').toArray()
      await once(child.stdout!, 'data')
      child.stdout!.destroy()
      expect(await once(child, 'exit')).toEqual([141, null])
      expect(await errors).toEqual([])
      expect(await leftOf(child.pid)).toEqual([])
    }, 60_000)

    it.each([
      ['its command', 7],
      ['Ctrl-C', 130],
      ['SIGINT', 130],
    ])(
      'leaves its terminal as it was, and no kernel, when it is ended by %s',
      async (end, status) => {
        await kernelFor(version, 'stock')
        await using directory = await sharedDirectory()
        const told = `${directory.path}/told`
        const how = new Map([
          ['Ctrl-C', 'key'],
          ['SIGINT', 'signal'],
        ]).get(end)
        const script = `echo up; until [ -e ${told} ]; do sleep 0.05; done; exit 7`
        const seen = await bootOnTerminal(version, ['sh', '-c', script], how ?? told)
        expect(seen).toMatchObject({ status, during: true, after: true, left: 0 })
        // Not only the kernel: the command is a process of the machine as well.
        expect(seen.processes).toBeGreaterThan(1)
        expect(await leftOf(seen.pid)).toEqual([])
      },
      120_000,
    )

    it('says that its output cannot be written', async () => {
      await kernelFor(version, 'stock')
      await using full = await open('/dev/full', 'w')
      const child = bootCommand(version, ['echo', 'hi'], full.fd)
      const errors = child.stderr!.setEncoding('utf8').toArray()
      expect(await once(child, 'exit')).toEqual([2, null])
      expect((await errors).join('')).toBe('lowerwatch: ENOSPC: no space left on device, write\n')
    }, 60_000)
  },
)
