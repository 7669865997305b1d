// SPDX-License-Identifier: MIT

import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { parseSources } from '../../../src/kernel/apt.js'
import { requireBootable, sweep } from '../../../src/kernel/boot.js'
import { initScript, isCovered, parseResult, quote, untilMark } from '../../../src/kernel/init-script.js'
import { duration, Progress } from '../../../src/kernel/progress.js'

describe('initScript', () => {
  it('is a script that sh takes, whatever the words are', () => {
    const script = initScript({
      argv: ['echo', "it's", '$(x) `y`', '*'],
      cwd: "/a b'c",
      env: { A: "1'2\n3" },
      keep: ["/tmp/a b'c", '/home/x'],
      mark: "\x04'",
    })
    expect(spawnSync('sh', ['-n'], { input: script }).status).toBe(0)
  })

  it('quotes so that the shell gives back the same word', () => {
    for (const word of ['', 'a b', "'", "''\\'", '$HOME', '*', 'a\nb', '!x', '\\'])
      expect(spawnSync('sh', ['-c', `printf %s ${quote(word)}`]).stdout.toString()).toBe(word)
  })
})

describe('isCovered', () => {
  it.each(['/tmp', '/run', '/dev', '/dev/shm/x', '/proc/1', '/sys/fs/cgroup'])('%s', (path) => {
    expect(isCovered(path)).toBe(true)
  })

  it.each(['/', '/tmp/x', '/run/user/0', '/tmpx', '/home/dev', '/devel'])('not %s', (path) => {
    expect(isCovered(path)).toBe(false)
  })
})

describe('requireBootable', () => {
  const usage = (message: RegExp) => ({ code: 'USAGE', message: expect.stringMatching(message) })

  it.each(['/a b/c', '/a\tb', '/a\nb', '/a"b', '/\u00e0'])(
    'takes no cache whose path the kernel would split: %j',
    async (root) => {
      await expect(requireBootable('/', root)).rejects.toMatchObject(usage(/command line cannot have/))
    },
  )

  it('takes no cache whose path is relative', async () => {
    await expect(requireBootable('/', 'cache/x')).rejects.toMatchObject(usage(/not an absolute path/))
  })

  it('takes no directory that the guest has not, also through a link', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'lowerwatch-boot-'))
    try {
      await symlink('/proc', join(directory, 'link'))
      const cwd = join(directory, 'link/self')
      await expect(requireBootable(cwd, '/x')).rejects.toMatchObject(
        usage(/system of its own on \/proc\/\d+$/),
      )
    } finally {
      await rm(directory, { recursive: true })
    }
  })
})

describe('sweep', () => {
  it('removes what killed boots have left, and nothing of one in progress', async () => {
    const boots = await mkdtemp(join(tmpdir(), 'lowerwatch-boot-'))
    const holder = spawn('flock', [
      '--no-fork',
      join(boots, 'busy.lock'),
      'sh',
      '-c',
      'echo; exec sleep 1000',
    ])
    try {
      await once(holder.stdout, 'data')
      await mkdir(join(boots, 'busy/umid'), { recursive: true })
      await mkdir(join(boots, 'killed/umid'), { recursive: true })
      await writeFile(join(boots, 'killed.lock'), '')
      await writeFile(join(boots, 'init-1-x'), '')
      await sweep(boots)
      expect((await readdir(boots)).sort()).toEqual(['busy', 'busy.lock'])
      holder.kill('SIGKILL')
      await once(holder, 'exit')
      await sweep(boots)
      expect(await readdir(boots)).toEqual([])
    } finally {
      holder.kill('SIGKILL')
      await rm(boots, { recursive: true })
    }
  })
})

describe('untilMark', () => {
  const passed = async (...chunks: string[]) => {
    async function* stream() {
      for (const chunk of chunks) yield Buffer.from(chunk)
    }
    const parts: string[] = []
    for await (const part of untilMark(stream(), Buffer.from('<<>'))) parts.push(part.toString())
    return parts
  }

  it('passes what comes before the mark, wherever it is cut', async () => {
    const text = 'a<<<><<b<<>c<<>'
    const [whole, end] = ['a<', text.indexOf('<<>')]
    for (let i = 0; i <= text.length; i++)
      for (let j = i; j <= text.length; j++)
        expect((await passed(text.slice(0, i), text.slice(i, j), text.slice(j))).join('')).toBe(whole)
    expect(end).toBe(whole.length)
  })

  it('passes everything when no mark comes', async () => {
    expect(await passed('a<', '<')).toEqual(['a', '<<'])
  })

  it('keeps nothing back that cannot be of the mark', async () => {
    expect(await passed('a', '<b', 'c<')).toEqual(['a', '<b', 'c', '<'])
  })
})

describe('parseResult', () => {
  it('knows a command that was not run', () => {
    expect(parseResult('status nowhere\nend\n')).toEqual({ status: null, splats: [] })
  })

  it('reads status and alarms', () => {
    expect(parseResult('status 7\r\nsplat [1] WARNING: x\r\nend\r\n')).toEqual({
      status: 7,
      splats: ['[1] WARNING: x'],
    })
  })

  it('takes no result that is cut short for one', () => {
    expect(parseResult('')).toBeNull()
    expect(parseResult('status 0\n')).toBeNull()
    expect(parseResult('stat')).toBeNull()
  })
})

describe('Progress', () => {
  it('tells how much is left from the time so far, and is never done before the end', () => {
    let now = 0
    const progress = new Progress('x', 100, { write: () => {} }, () => now)
    for (let i = 0; i < 50; i++) progress.step()
    now = 30_000
    expect(progress.line()).toBe('x: 50 %, about 30 s left')
    for (let i = 0; i < 100; i++) progress.step()
    expect(progress.line()).toMatch(/^x: 9\d %/)
  })

  it('writes a line now and then where there is no terminal', () => {
    let now = 0
    const lines: string[] = []
    const progress = new Progress('x', 10, { write: (text) => lines.push(text) }, () => now)
    progress.step()
    now = 20_000
    progress.step()
    progress.finish()
    expect(lines).toEqual(['x: 20 %, about 1 min 20 s left\n', 'x: done in 20 s\n'])
  })

  it('writes durations for people', () => {
    expect([duration(-1), duration(59_400), duration(125_000)]).toEqual(['0 s', '59 s', '2 min 5 s'])
  })
})

describe('parseSources', () => {
  it('finds the archive in both formats, and not the security updates', () => {
    const stanza = `Types: deb\n# a comment\nURIs: http://mirror.test/debian-security\nSuites: x\n
Types: deb\nURIs: http://mirror.test/debian\nSuites: bookworm\nSigned-By: /usr/share/keyrings/k.gpg\n`
    expect(parseSources(stanza)).toEqual({
      uri: 'http://mirror.test/debian',
      signedBy: '/usr/share/keyrings/k.gpg',
    })
    expect(
      parseSources('deb [arch=amd64 signed-by=/k.gpg] https://mirror.test/debian/ bookworm main\n'),
    ).toEqual({
      uri: 'https://mirror.test/debian/',
      signedBy: '/k.gpg',
    })
    expect(
      parseSources('deb http://mirror.test/ubuntu jammy main\n# deb http://mirror.test/debian x main\n'),
    ).toBeNull()
  })
})
