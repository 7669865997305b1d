// SPDX-License-Identifier: MIT
import { defineConfig } from 'vitest/config'

/** The tests that need kernels: scripts/test-kernel builds those and runs this. */
export default defineConfig({
  test: {
    pool: 'forks',
    include: ['test/kernel/**/*.test.ts'],
    reporters: ['default', './test/reporter.ts'],
    testTimeout: 900_000,
    hookTimeout: 900_000,
    // Each boot has two processors of its own to fill, and most wait for the disk that is this machine's root.
    maxWorkers: 2,
  },
})
