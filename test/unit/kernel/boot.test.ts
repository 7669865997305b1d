// SPDX-License-Identifier: MIT

import { spawnSync } from 'node:child_process'
import { describe, expect, it } from 'vitest'
import { parseSources } from '../../../src/kernel/apt.js'
import { initScript, parseResult, quote } from '../../../src/kernel/init-script.js'
import { duration, Progress } from '../../../src/kernel/progress.js'

describe('initScript', () => {
  it('is a script that sh takes, whatever the words are', () => {
    const script = initScript({
      argv: ['echo', "it's", '$(x) `y`', '*'],
      cwd: "/a b'c",
      env: { A: "1'2\n3" },
      keep: ["/tmp/a b'c", '/home/x'],
    })
    expect(spawnSync('sh', ['-n'], { input: script }).status).toBe(0)
  })

  it('quotes so that the shell gives back the same word', () => {
    for (const word of ['', 'a b', "'", "''\\'", '$HOME', '*', 'a\nb', '!x', '\\'])
      expect(spawnSync('sh', ['-c', `printf %s ${quote(word)}`]).stdout.toString()).toBe(word)
  })
})

describe('parseResult', () => {
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
