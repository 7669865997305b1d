// SPDX-License-Identifier: MIT

import { spawnSync } from 'node:child_process'
import { chmod, cp, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { buildForTests } from '../../../src/kernel/prepare.js'
import { onPath } from '../../../src/kernel/tools.js'

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
      expect(said.mock.calls).toEqual([
        [expect.stringMatching(/^lowerwatch: no stock kernel of Linux 7\.99 to test: .+\n$/)],
      ])
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
  it('is root, which is said in one line with exit status 2', async ({ skip }) => {
    const folder = await mkdtemp(join(tmpdir(), 'lowerwatch-prepare-'))
    try {
      // The checkout can be in a directory of root's.
      await cp(script(''), `${folder}/scripts`, { recursive: true })
      await chmod(folder, 0o755)
      const nobody = process.getuid!() === 0 ? { uid: 65534, gid: 65534 } : {}
      const ran = spawnSync(`${folder}/scripts/test-kernel`, { encoding: 'utf8', ...nobody })
      if (ran.error) skip(`no other user here: ${ran.error.message}`)
      expect(ran.stderr).toMatch(/^lowerwatch: needs root: .+\n$/)
      expect([ran.status, ran.stdout]).toEqual([2, ''])
    } finally {
      await rm(folder, { recursive: true, force: true })
    }
  })

  it('are sources, from the network or a cache: one line names the kernel, exit status 2', async ({
    skip,
  }) => {
    if (process.getuid!() !== 0) skip('not root')
    const offline = spawnSync('unshare', ['--net', 'true'], { encoding: 'utf8' })
    if (offline.status !== 0) skip(`no network namespace here: ${offline.stderr.trim()}`)
    for (const tool of ['gcc', 'make', 'flex', 'bison', 'bc', 'xz', 'dpkg-deb', 'apt-get'])
      if (!(await onPath(tool))) skip(`no ${tool} here`)
    const folder = await mkdtemp(join(tmpdir(), 'lowerwatch-prepare-'))
    try {
      // By default apt waits between attempts.
      await writeFile(`${folder}/apt.conf`, 'Acquire::Retries "0";\n')
      const argv = ['--net', script('test-kernel'), '--version', '7.2']
      const env = { ...process.env, XDG_CACHE_HOME: folder, APT_CONFIG: `${folder}/apt.conf` }
      const { status, stdout, stderr } = spawnSync('unshare', argv, { encoding: 'utf8', env })
      const errors = stderr.split('\n').filter((line) => line.startsWith('lowerwatch: '))
      const why = /the machine's package mirror cannot be used: check the network|apt on this machine has no/
      expect(errors).toEqual([
        expect.stringMatching(`^lowerwatch: no stock kernel of Linux 7.2 to test: ${why.source}`),
      ])
      expect(stderr.endsWith(`${errors[0]}\n`)).toBe(true)
      expect([status, stdout]).toEqual([2, ''])
    } finally {
      await rm(folder, { recursive: true, force: true })
    }
  })
})
