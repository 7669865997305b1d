// SPDX-License-Identifier: MIT
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { undo } from '../../../src/probe/undo.js'

let directory: string
let base: string
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'lowerwatch-'))
  base = join(directory, 'base')
  mkdirSync(base)
})
afterEach(() => rmSync(directory, { recursive: true }))

const nothing = { reason: 'not in this test' }

describe('undoing what a probe left', () => {
  it('tries every step, and names each that failed', async () => {
    writeFileSync(join(base, 'resources'), 'directory no-such-type rw /a\ndirectory no-such-kind rw /b\n')
    const cgroup = { path: join(base, 'resources') }
    await expect(undo({ base, cgroup })).rejects.toThrow(
      /ENOTDIR.*; no-such-kind \/b is left behind: .*; no-such-type \/a is left behind: /s,
    )
    expect(existsSync(base)).toBe(false)
  })

  it('takes what is gone for gone', async () => {
    await undo({ base, cgroup: { path: join(directory, 'gone') } })
    await undo({ base, cgroup: nothing })
    expect(existsSync(base)).toBe(false)
  })
})
