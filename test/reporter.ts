// SPDX-License-Identifier: MIT
import { appendFileSync, readFileSync } from 'node:fs'
import type { Reporter, SerializedError, TestCase, TestModule } from 'vitest/node'

interface ExpectedSkip {
  /** Regular expression for `file > group > test`. */
  test: string
  /** Regular expression for the reason. */
  reason: string
}

/**
 * Prints every skipped test with its reason, and adds one line `passed failed skipped` to the file
 * $LOWERWATCH_TALLY, which scripts/test sums up. With CI=true a skip that test/expected-skips.json does not
 * expect counts as a failure.
 */
export default class SkipReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], errors: readonly SerializedError[]): void {
    const tests = modules.flatMap((module) => [...module.children.allTests()])
    const skipped = tests.filter(isSkipped)
    const unexpected = reportSkips(skipped.map((test) => ({ name: nameOf(test), reason: reasonOf(test) })))
    const broken = modules.filter((module) => module.errors().length > 0).length
    const brokenSuites = modules
      .flatMap((module) => [...module.children.allSuites()])
      .filter((suite) => suite.errors().length > 0)
    const failed =
      tests.filter((test) => test.result().state === 'failed').length +
      broken +
      brokenSuites.length +
      errors.length +
      unexpected
    const passed = tests.filter((test) => test.result().state === 'passed').length
    tally(passed, failed, skipped.length - unexpected)
    if (failed > 0) process.exitCode = 1
  }
}

/** Prints the skips, and which of them are not in test/expected-skips.json. Returns how many are failures. */
export function reportSkips(skips: { name: string; reason: string }[]): number {
  const strict = process.env.CI === 'true' || process.env.CI === '1'
  let unexpected = 0
  for (const { name, reason } of skips) {
    const expected = isExpected(name, reason)
    if (!expected) unexpected++
    process.stdout.write(
      `skipped${expected ? '' : ' unexpectedly'}: ${name}: ${reason || 'no reason given'}\n`,
    )
  }
  return strict ? unexpected : 0
}

export function tally(passed: number, failed: number, skipped: number): void {
  const file = process.env.LOWERWATCH_TALLY
  if (file !== undefined) appendFileSync(file, `${passed} ${failed} ${skipped}\n`)
}

/** Those of a skipped group, and those that SkipRunner skips, stay pending. */
function isSkipped(test: TestCase): boolean {
  const { state } = test.result()
  const left = test.options.mode === 'skip' || process.env.LOWERWATCH_SKIP !== undefined
  return state === 'skipped' || (state === 'pending' && left)
}

function nameOf(test: TestCase): string {
  return `${test.module.relativeModuleId} > ${test.fullName.replace(/ \(skipped: .*?\)(?= > |$)/, '')}`
}

/** From `ctx.skip(reason)`, `(skipped: reason)` in the title of a group, or the reason to skip everything. */
function reasonOf(test: TestCase): string {
  const result = test.result()
  const note = result.state === 'skipped' ? result.note : undefined
  return note ?? /\(skipped: (.*?)\)(?: > |$)/.exec(test.fullName)?.[1] ?? process.env.LOWERWATCH_SKIP ?? ''
}

function isExpected(name: string, reason: string): boolean {
  const file = new URL('./expected-skips.json', import.meta.url)
  const expected: ExpectedSkip[] = JSON.parse(readFileSync(file, 'utf8'))
  return expected.some((skip) => new RegExp(skip.test).test(name) && new RegExp(skip.reason).test(reason))
}
