// SPDX-License-Identifier: MIT

import { PassThrough } from 'node:stream'
import { describe, expect, it } from 'vitest'
import { boot } from '../../src/kernel/boot.js'
import { versions } from '../../src/kernel/series.js'
import { guest, kernelFor } from './guest.js'

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
      const sink = () => new PassThrough().resume()
      const request = { build, argv: ['true'], append: ['init=/nonexistent'], stdout: sink(), stderr: sink() }
      await expect(boot(request)).rejects.toThrow(/Kernel panic[\s\S]*init/)
    }, 60_000)
  },
)
