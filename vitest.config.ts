// SPDX-License-Identifier: MIT
import { availableParallelism } from 'node:os'
import { defineConfig } from 'vitest/config'

/** They measure nothing and look at nothing of the whole machine, so they run beside the unit tests. */
const beside = ['test/integration/stock.test.ts']

/** Also two processors have work for two: these tests wait for the kernel about as long as they compute. */
const maxWorkers = Math.max(2, availableParallelism() - 1)

const integration = { runner: './test/skip-runner.ts', testTimeout: 120_000, hookTimeout: 120_000 }

export default defineConfig({
  test: {
    // A fork has its own environment of the addon, and threads of the process are not shared with other tests.
    pool: 'forks',
    testTimeout: 30_000,
    hookTimeout: 30_000,
    reporters: ['default', './test/reporter.ts'],
    projects: [
      {
        extends: true,
        test: {
          name: 'unit',
          include: ['test/unit/**/*.test.ts', 'test/fuzz/**/*.test.ts'],
          maxWorkers,
          sequence: { groupOrder: 0 },
        },
      },
      {
        extends: true,
        test: {
          ...integration,
          name: 'integration, beside others',
          include: beside,
          maxWorkers,
          sequence: { groupOrder: 0 },
        },
      },
      {
        extends: true,
        test: {
          ...integration,
          name: 'integration',
          include: ['test/integration/**/*.test.ts'],
          exclude: beside,
          // Latencies are measured, and some tests mount and count things of the whole machine.
          fileParallelism: false,
          sequence: { groupOrder: 1 },
        },
      },
    ],
  },
})
