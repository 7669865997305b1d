// SPDX-License-Identifier: MIT
import { defineConfig } from 'vitest/config'
import { longestFirst } from '../longest-first.js'

/** For `scripts/test-kernel-distro`: needs the package mirror, or what it gave in the cache. */
export default defineConfig({
  test: {
    root: new URL('../..', import.meta.url).pathname,
    include: ['test/distro/**/*.test.ts'],
    pool: 'forks',
    reporters: ['default', './test/reporter.ts'],
    testTimeout: 600_000,
    hookTimeout: 600_000,
    sequence: { sequencer: longestFirst('qemu.test.ts', 'probe.test.ts', 'loaded.test.ts') },
    // Each boot emulates a machine on one processor of this one.
    maxWorkers: 2,
  },
})
