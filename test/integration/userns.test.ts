// SPDX-License-Identifier: MIT

/** An ordinary user, who is root only in a user namespace of his own: overlay, daemon and tests work there too. */
import { chownSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { Actor } from './fixture/actor.js'
import { reachableCheckout } from './fixture/checkout.js'
import { runProgram } from './fixture/daemon.js'
import { inUserNamespace, unprivileged } from './fixture/environment.js'
import { temporaryDirectory } from './fixture/lowers.js'

const wanted = [
  'file created after a cached ENOENT',
  'file replaced by rename',
  'directory removed and recreated',
  'deep tree created at once after a cached ENOENT',
  'directory made opaque in a middle lower hides the bottom',
  "held listing of the mount's root: rewound, and everybody else's",
  "held listing of the root of an overlay with no upper: everybody else's",
  'file removed, while a process has it open',
]

test('in `unshare -UrmC`, started by nobody in particular', { timeout: 120_000 }, async ({ skip }) => {
  skip(inUserNamespace, 'this run is in a user namespace already')
  const user = ['--reuid', `${unprivileged.uid}`, '--regid', `${unprivileged.gid}`, '--clear-groups']
  const namespace = await runProgram('setpriv', ...user, 'unshare', '-UrmC', 'true')
  skip(namespace.code !== 0, `no user namespaces here: ${namespace.stderr.trim()}`)
  // Compiled now, because the user may not write to the checkout.
  await new Actor().stop()
  const own = temporaryDirectory('userns')
  const checkout = reachableCheckout()
  try {
    chownSync(own, unprivileged.uid, unprivileged.gid)
    const pattern = `^(${wanted.map((name) => name.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')).join('|')})$`
    const environment = [
      'env',
      // What the outer run made for itself is not this user's.
      '--unset=RUNTIME_DIRECTORY',
      '--unset=LOWERWATCH_TALLY',
      `HOME=${own}`,
      `XDG_RUNTIME_DIR=${own}`,
      `LOWERWATCH_CASE=${pattern}`,
      'LOWERWATCH_RANDOM_OPS=300',
      `LOWERWATCH_RANDOM_SEED=${process.env.LOWERWATCH_RANDOM_SEED ?? (process.env.CI === 'true' ? 1 : Date.now() % 2 ** 31)}`,
      // What this user cannot have is skipped, which CI does not expect of the outer run.
      'CI=false',
    ]
    const vitest = join(checkout.path, 'node_modules', 'vitest', 'vitest.mjs')
    const files = ['coherence', 'random'].map((name) => join('test', 'integration', `${name}.test.ts`))
    // This loader writes no compiled configuration beside the original.
    const tests = [
      process.execPath,
      vitest,
      'run',
      '--configLoader',
      'runner',
      '--project',
      'integration',
      '--root',
      checkout.path,
      ...files,
    ]
    const namespaced = ['unshare', '-UrmC', ...tests]
    const { code, stdout, stderr } = await runProgram('setpriv', ...user, ...environment, ...namespaced)
    expect(code, stdout + stderr).toBe(0)
    // Rows on tmpfs and on the root file system ran; ext4 images and cgroups are not for this user.
    expect(stdout).toMatch(/Tests.*\d+ passed/)
  } finally {
    checkout.release()
    rmSync(own, { recursive: true, force: true })
  }
})
