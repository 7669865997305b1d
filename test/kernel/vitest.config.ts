// SPDX-License-Identifier: MIT
import { defineConfig } from 'vitest/config'
import { longestFirst } from '../longest-first.js'

const longest = [
  'overlayfs.test.ts',
  'races.test.ts',
  'daemon.test.ts',
  'random.test.ts',
  'probe.test.ts',
  'kernfs.test.ts',
]

/** For `scripts/test-kernel`, which builds the kernels that these tests boot: they are no part of `npm test`. */
export default defineConfig({
  test: {
    root: new URL('../..', import.meta.url).pathname,
    include: ['test/kernel/**/*.test.ts'],
    pool: 'forks',
    reporters: ['default', './test/reporter.ts'],
    testTimeout: 900_000,
    hookTimeout: 900_000,
    sequence: { sequencer: longestFirst(...longest) },
    // Two processors have work for three: a boot starts on one and waits for the disk, and races take what is left over.
    maxWorkers: 3,
  },
})
