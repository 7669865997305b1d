// SPDX-License-Identifier: MIT
import { defineConfig } from 'vitest/config'
import { longestFirst } from '../longest-first.js'

const longest = ['overlayfs.test.ts', 'races.test.ts', 'random.test.ts', 'daemon.test.ts', 'probe.test.ts']

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
    // A boot starts on one processor, and waits for the disk that is this machine's root. Three are a minute faster in all, but
    // processes of the races have been a minute late when this machine had more to do than it has processors.
    maxWorkers: 2,
  },
})
