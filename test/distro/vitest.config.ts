// SPDX-License-Identifier: MIT
import { defineConfig } from 'vitest/config'

/** For `scripts/test-kernel-distro`: needs the package mirror, or what it gave in the cache. */
export default defineConfig({
  test: {
    root: new URL('../..', import.meta.url).pathname,
    include: ['test/distro/**/*.test.ts'],
    pool: 'forks',
    reporters: ['default', './test/reporter.ts'],
    testTimeout: 600_000,
    hookTimeout: 600_000,
  },
})
