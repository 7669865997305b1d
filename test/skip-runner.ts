// SPDX-License-Identifier: MIT
import { type RunnerTask, type RunnerTestFile, TestRunner } from 'vitest'

/** With $LOWERWATCH_SKIP, skips every test for that reason, hooks and all; else it changes nothing. */
export default class SkipRunner extends TestRunner {
  onCollected(files: RunnerTestFile[]): void {
    const reason = process.env.LOWERWATCH_SKIP
    if (reason !== undefined) for (const file of files) skip(file, reason)
  }
}

function skip(task: RunnerTask, reason: string): void {
  task.mode = 'skip'
  if (task.type === 'suite') for (const child of task.tasks) skip(child, reason)
}
