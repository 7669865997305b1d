// SPDX-License-Identifier: MIT
import { basename } from 'node:path'
import { BaseSequencer, type TestSpecification } from 'vitest/node'

/** Runs the files that take longest first, so that the workers are done at about the same time. */
export function longestFirst(...names: string[]): typeof BaseSequencer {
  const place = ({ moduleId }: TestSpecification) => {
    const known = names.indexOf(basename(moduleId))
    return known < 0 ? names.length : known
  }
  return class extends BaseSequencer {
    override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
      return files.toSorted((a, b) => place(a) - place(b))
    }
  }
}
