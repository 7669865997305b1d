// SPDX-License-Identifier: MIT

/**
 * Random operations in two lowers and through the overlay: at every quiet moment it must show what a fresh mount shows.
 * LOWERWATCH_KERNEL_OPS and LOWERWATCH_RANDOM_SEED say how many, and which.
 */
import { describe, expect, it } from 'vitest'
import { quick, versionsWith } from './guest.js'
import { modes, python, run } from './overlayfs.js'

const operations = Number(process.env.LOWERWATCH_KERNEL_OPS ?? 1_500)
const optionSets = ['index=off', 'index=on,redirect_dir=on,xino=on', 'index=on,metacopy=on,redirect_dir=on']
const seed = Number(
  process.env.LOWERWATCH_RANDOM_SEED ?? (process.env.CI === 'true' ? 101 : Date.now() % 2 ** 31),
)

describe.each(await versionsWith('overlayfs'))('overlayfs on %s', (version) => {
  describe.each(modes)('lower_changes=%s', (mode) => {
    it(`${operations} random operations, seed ${seed}, each with ${optionSets.join(' and ')}`, async () => {
      const program = python('overlayfs_random.py', mode, seed, operations)
      const all = 'for options in $OPTIONS; do "$@" "$options"; done'
      const env = { OPTIONS: optionSets.join(' ') }
      const done = await run(version, 'patched', ['sh', '-ec', all, 'sh', ...program], quick, env)
      // What another mount shows in the same way is told apart: not what this is about, but for somebody to look at.
      const good = done.stdout.match(/ no difference, 0 told apart$/gm)
      expect(good?.length, done.stdout + done.stderr).toBe(optionSets.length)
      expect(done).toMatchObject({ status: 0, splats: [] })
    })
  })
})
