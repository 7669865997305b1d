// SPDX-License-Identifier: MIT

/** `lowerwatch probe` in the stock and the patched kernels: each row as the expectation table says. */
import { describe, expect, it } from 'vitest'
import { versions } from '../../src/kernel/series.js'
import type { ProbeReport } from '../../src/probe/run.js'
import { quick } from './guest.js'
import { run } from './overlayfs.js'

const asked = (process.env.LOWERWATCH_KERNEL_VERSIONS ?? '').split(' ').filter((version) => version !== '')

describe.each((await versions()).filter((v) => asked.length === 0 || asked.includes(v)))(
  'probe on %s',
  (version) => {
    it.each(['stock', 'patched'] as const)('%s', { timeout: 300_000 }, async (kind) => {
      const done = await run(
        version,
        kind,
        [process.execPath, 'dist/cli/main.js', 'probe', '--json'],
        ['psi=1', ...quick],
      )
      expect(done.stderr).toBe('')
      const report = JSON.parse(done.stdout) as ProbeReport
      expect(report.rows.filter(({ status }) => status === 'differs')).toEqual([])
      expect(report.leftBehind).toEqual([])
      const has = (id: string) => report.features.find((feature) => feature.id === id)?.has
      expect([has('kernfs-events'), has('lower-changes')]).toEqual([kind === 'patched', kind === 'patched'])
      // Only what these kernels are built without is skipped.
      const skipped = report.rows.filter(({ status }) => status === 'skipped').map(({ id }) => id)
      const without = /^(configfs|tracefs|facts\/mark\/btrfs)|^overlay\/.*\/(notify|reval|manual)$/
      expect(skipped.filter((id) => !without.test(id))).toEqual([])
      expect(done).toMatchObject({ status: 0, splats: [] })
    })
  },
)
