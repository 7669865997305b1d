// SPDX-License-Identifier: MIT

import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { debug, guest, kernelFor, versionsWith } from './guest.js'

const program = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url))

/** With overlayfs as a module nobody has loaded it yet. */
const seen = (answer: string) =>
  debug === 'modules' ? 'unknown (overlay is not loaded; `lowerwatch probe` tries it)' : answer

describe.each(await versionsWith('kernfs'))('lowerwatch kernel list on %s', (version) => {
  it.each([
    ['kernfs', 'absent', 'present'],
    ['overlayfs', 'present', 'absent'],
  ] as const)(
    'says what is running: the series for %s alone',
    async (series, overlayfs, kernfs) => {
      const build = await kernelFor(version, 'patched', series)
      const run = await guest(build, [process.execPath, program, 'kernel', 'list', '--json'])
      expect(run).toMatchObject({ status: 0, stderr: '', splats: [] })
      const { running } = JSON.parse(run.stdout)
      expect(running).toEqual({
        release: expect.stringMatching(`^${version}\\.`),
        overlayfs: seen(overlayfs),
        kernfs,
      })
    },
    60_000,
  )
})
