// SPDX-License-Identifier: MIT
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { giveBack, removeCgroup } from '../../../src/probe/cgroup.js'

let directory: string
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'lowerwatch-'))
})
afterEach(() => rmSync(directory, { recursive: true }))

describe('a cgroup without cgroup.kill (an ordinary directory has none either)', () => {
  it('is removed with what is below, and no file is made in it', async () => {
    mkdirSync(join(directory, 'cgroup', 'child'), { recursive: true })
    await removeCgroup(join(directory, 'cgroup'))
    expect(readdirSync(directory)).toEqual([])
  })

  it('has its processes killed one by one', async () => {
    const child = spawn('sleep', ['600'], { stdio: 'ignore' })
    const exited = once(child, 'exit')
    const inner = join(directory, 'cgroup', 'child')
    mkdirSync(inner, { recursive: true })
    writeFileSync(join(inner, 'cgroup.procs'), `0\n${child.pid}\n`)
    // A file of a real cgroup goes with it; this one stays.
    await expect(removeCgroup(join(directory, 'cgroup'))).rejects.toThrow('ENOTEMPTY')
    expect(await exited).toEqual([null, 'SIGKILL'])
  })

  it('may be gone', async () => {
    await removeCgroup(join(directory, 'gone'))
    expect(existsSync(join(directory, 'gone'))).toBe(false)
  })
})

describe('a controller that was asked for', () => {
  const control = () => readFileSync(join(directory, 'cgroup.subtree_control'), 'latin1')
  beforeEach(() => writeFileSync(join(directory, 'cgroup.subtree_control'), ''))

  it('is given back when there is no child but the own', () => {
    mkdirSync(join(directory, 'own'))
    giveBack('pids', directory, 'own')
    expect(control()).toBe('-pids')
  })

  it('is left when another child came, and that is said', () => {
    for (const name of ['own', 'lowerwatch-probe-abcdef']) mkdirSync(join(directory, name))
    expect(() => giveBack('pids', directory, 'own')).toThrow(
      `${directory} still hands pids down: lowerwatch-probe-abcdef came meanwhile`,
    )
    expect(control()).toBe('')
  })

  it('needs no giving back where the parent is gone', () =>
    expect(() => giveBack('pids', join(directory, 'gone'))).not.toThrow())
})
