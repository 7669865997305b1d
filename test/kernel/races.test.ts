// SPDX-License-Identifier: MIT

/** Lowers that some processes change while others use the overlay. LOWERWATCH_KERNEL_SECONDS says how long, for each mode. */
import { describe, expect, it } from 'vitest'
import { debug, versionsWith } from './guest.js'
import { modes, python, run } from './overlayfs.js'

/** Before 7.0 a user-mode kernel has one processor, on which less can race. */
const raceSeconds = (version: string) =>
  Number(process.env.LOWERWATCH_KERNEL_SECONDS ?? (debug ? 60 : version.startsWith('6.') ? 10 : 30))

const options: Record<string, string> = {
  manual: 'xino=on,volatile',
  notify: 'index=on,metacopy=on,redirect_dir=on',
}

describe.each(await versionsWith('overlayfs'))('overlayfs on %s', (version) => {
  it.each([...modes, 'switch'])(`${raceSeconds(version)} s of races, %s`, async (mode) => {
    const program = python('overlayfs_races.py', mode, raceSeconds(version), options[mode] ?? '')
    const done = await run(version, 'patched', program)
    expect(done.stdout + done.stderr).toContain('no difference')
    expect(done).toMatchObject({ status: 0, splats: [] })
  })

  // The others have no failslab.
  if (debug === 'kasan')
    it.each([...modes, 'switch'])('20 s of races, %s, when memory cannot be allocated', async (mode) => {
      const program = python('overlayfs_races.py', mode, 20, options[mode] ?? '', 'fail')
      const done = await run(version, 'patched', program)
      expect(done.stdout + done.stderr).toContain('no difference')
      expect(done).toMatchObject({ status: 0, splats: [] })
    })
})
