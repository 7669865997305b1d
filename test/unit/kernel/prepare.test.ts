// SPDX-License-Identifier: MIT

import { spawnSync } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { buildForTests } from '../../../src/kernel/prepare.js'

const script = (name: string) => fileURLToPath(new URL(`../../../scripts/${name}`, import.meta.url))

describe('what the kernel tests need', () => {
  afterEach(() => {
    process.exitCode = undefined
    vi.unstubAllEnvs()
    vi.restoreAllMocks()
  })

  it('is said in one line with exit status 2 when it cannot be made, whatever the error is', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'lowerwatch-prepare-'))
    try {
      // A file where the cache should be: no error of our own.
      await writeFile(`${folder}/file`, '')
      vi.stubEnv('XDG_CACHE_HOME', `${folder}/file`)
      const said = vi.spyOn(process.stderr, 'write').mockReturnValue(true)
      await buildForTests('7.99', 'stock', '')
      expect(said.mock.calls).toEqual([[expect.stringMatching(/^test-kernel: .+\n$/)]])
      expect(process.exitCode).toBe(2)
    } finally {
      await rm(folder, { recursive: true, force: true })
    }
  })

  it.each([
    ['test-kernel', '--debug'],
    ['test-kernel', '--version'],
    ['test-kernel', '--version', '7.2', '--debug', ''],
    ['test-kernel-distro', '--release'],
    ['test-kernel-distro', '--release', '6.12.95-test', '--module'],
  ])('%s %s %s: a value that is missing is one line, exit status 2', (name, ...args) => {
    const { status, stderr } = spawnSync(script(name), args, { encoding: 'utf8' })
    expect(stderr).toMatch(/^lowerwatch: --\w+ needs .+\n$/)
    expect(status).toBe(2)
  })
})
