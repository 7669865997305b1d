// SPDX-License-Identifier: MIT
import { defineConfig } from 'vitest/config'

/** For `scripts/test-kernel`: these tests boot kernels, and are no part of `npm test`. */
export default defineConfig({
  test: {
    root: new URL('../..', import.meta.url).pathname,
    include: ['test/kernel/**/*.test.ts'],
    pool: 'forks',
    // One boot at a time: the machine has few processors and the tests have deadlines.
    fileParallelism: false,
    testTimeout: 120_000,
    hookTimeout: 120_000,
  },
})
