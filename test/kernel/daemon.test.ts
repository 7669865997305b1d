// SPDX-License-Identifier: MIT

/**
 * The daemon and Node in a patched kernel: the coherence rows of test/integration with every overlay mounted
 * `lower_changes=MODE`. With `manual` the daemon invalidates; with `notify` it does nothing, and each row is right when
 * the changing call has returned. And the policy that switches overlays to a mode.
 */
import { describe, expect, it } from 'vitest'
import { quick, versionsWith } from './guest.js'
import { run } from './overlayfs.js'

const newest = (await versionsWith('overlayfs')).at(-1)

/** One row of each kind, since a row takes seconds here; LOWERWATCH_CASE=. runs them all. */
const some = [
  'file created after a cached ENOENT',
  'file replaced by rename',
  'file removed, while a process has it open',
  'directory removed and recreated, while a process works in it',
  'directory of the upper alone gains a lower, while a process works in it',
  'deep tree created at once after a cached ENOENT',
  "held listing of the mount's root: rewound, and everybody else's",
  'directory made opaque in a middle lower hides the bottom',
  'chmod of a directory lets an unprivileged reader in, while a process holds it',
  'bottom directory of a stack exchanged for another, while a process holds the directory',
  'overlay on overlay: a change below the inner one shows through both',
  'controller files appear by subtree_control',
]
const pattern =
  process.env.LOWERWATCH_CASE ??
  `^(${some.map((name) => name.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')).join('|')})$`
/** What the outer run made for itself is not there in the guest. */
const outside = ['env', '--unset=LOWERWATCH_TALLY', '--unset=RUNTIME_DIRECTORY']
const vitest = [process.execPath, 'node_modules/vitest/vitest.mjs', 'run', '--configLoader', 'runner']
const rows = ['test/integration/coherence.test.ts', '-t', '(tmpfs|cgroup2)']

/** What depends on the kernel, and on the newest one what depends on the daemon alone, too. */
const policyTests = (version: string) => (version === newest ? '' : '("(notify|manual)"|rung invalidate)')

/** Runs a file of test/integration in a patched kernel. */
const inside = (version: string, given: string[], env: Record<string, string> = {}) =>
  run(
    version,
    'patched',
    [
      ...[...outside, 'unshare', '--mount', '--propagation', 'private'],
      ...[...vitest, '--project', 'integration', ...given],
    ],
    quick,
    { LOWERWATCH_PRIVATE_MOUNTS: '1', CI: 'false', NO_COLOR: '1', ...env },
  )

describe.each(await versionsWith('overlayfs'))('the daemon on %s', (version) => {
  it.each(['manual', 'notify'])('lower_changes=%s: coherence rows', async (mode) => {
    const done = await inside(version, rows, { LOWERWATCH_LOWER_CHANGES: mode, LOWERWATCH_CASE: pattern })
    const passed = Number(/Tests .*?(\d+) passed/.exec(done.stdout)?.[1])
    expect(passed, done.stdout + done.stderr).toBeGreaterThanOrEqual(some.length)
    expect(done.stdout).not.toMatch(/Tests .*failed/)
    expect(done).toMatchObject({ status: 0, splats: [] })
  })

  it('policy lower-changes, and what rung invalidate tells the kernel', async () => {
    const done = await inside(version, ['test/integration/lower-changes.test.ts', '-t', policyTests(version)])
    expect(done.stdout, done.stderr).toMatch(/Tests +(7|13) passed \| (7|1) skipped/)
    expect(done).toMatchObject({ status: 0, splats: [] })
  })
})
