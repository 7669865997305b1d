// SPDX-License-Identifier: MIT
import { basename } from 'node:path'
import { defineConfig } from 'vitest/config'
import { BaseSequencer, type TestSpecification } from 'vitest/node'

/** The others are short. */
const longest = ['overlayfs.test.ts', 'races.test.ts', 'random.test.ts', 'daemon.test.ts', 'probe.test.ts']

/** What takes longest first: the workers are done at about the same time. */
class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const place = ({ moduleId }: TestSpecification) => {
      const known = longest.indexOf(basename(moduleId))
      return known < 0 ? longest.length : known
    }
    return files.toSorted((a, b) => place(a) - place(b))
  }
}

/** For `scripts/test-kernel`, which builds the kernels that these tests boot: they are no part of `npm test`. */
export default defineConfig({
  test: {
    root: new URL('../..', import.meta.url).pathname,
    include: ['test/kernel/**/*.test.ts'],
    pool: 'forks',
    reporters: ['default', './test/reporter.ts'],
    testTimeout: 900_000,
    hookTimeout: 900_000,
    sequence: { sequencer: LongestFirst },
    // A boot starts on one processor, and waits for the disk that is this machine's root.
    maxWorkers: 2,
  },
})
