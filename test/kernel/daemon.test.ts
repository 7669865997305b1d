// SPDX-License-Identifier: MIT

/**
 * The daemon and Node in a patched kernel: the coherence rows of test/integration with every overlay mounted
 * `lower_changes=MODE`. With `manual` the daemon invalidates; with `notify` it does nothing, and each row is right when
 * the changing call has returned.
 */
import { describe, expect, it } from 'vitest'
import { guest, kernelFor, versionsWith } from './guest.js'

const vitest = [process.execPath, 'node_modules/vitest/vitest.mjs', 'run', '--configLoader', 'runner']
const rows = [
  ...vitest,
  '--project',
  'integration',
  'test/integration/coherence.test.ts',
  '-t',
  '(tmpfs|cgroup2)',
]

describe.each(await versionsWith('overlayfs'))('the daemon on %s', (version) => {
  it.each(['manual', 'notify'])('lower_changes=%s: every coherence row', async (mode) => {
    const run = await guest(
      await kernelFor(version, 'patched'),
      ['unshare', '--mount', '--propagation', 'private', ...rows],
      [],
      { LOWERWATCH_LOWER_CHANGES: mode, LOWERWATCH_PRIVATE_MOUNTS: '1', CI: 'false', NO_COLOR: '1' },
    )
    expect(run.stdout).not.toMatch(/Tests .*failed/)
    expect(Number(/Tests .*?(\d+) passed/.exec(run.stdout)?.[1]), run.stdout + run.stderr).toBeGreaterThan(80)
    expect(run).toMatchObject({ status: 0, splats: [] })
  })
})
