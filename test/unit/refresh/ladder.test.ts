// SPDX-License-Identifier: MIT
import { describe, expect, test } from 'vitest'
import type { LowerChangesMode, OpenOverlay } from '../../../src/overlay/types.js'
import { ladder } from '../../../src/refresh/ladder.js'
import { defaultPolicy, type RefreshPolicy } from '../../../src/refresh/policy.js'

/** Why the rungs are not available, of an overlay that the mount table says this of. */
async function reasons(mode: LowerChangesMode, policy: Partial<RefreshPolicy> = {}) {
  const overlay = {
    description: { options: [['lower_changes', mode]], upper: null },
  } as unknown as OpenOverlay
  const rungs = await ladder(overlay, { ...defaultPolicy, swap: 'never', ...policy })
  return Object.fromEntries(rungs.map(({ name, unavailable }) => [name, unavailable]))
}

describe('an overlay with lower_changes=off', () => {
  test('the policy that switches it on is named', async () => {
    expect(await reasons('off')).toMatchObject({
      kernel: 'lower_changes is off: lower-changes = "notify" switches it on',
      invalidate: 'needs lower_changes=manual, it is off',
    })
  })

  test('where the policy was not enough, the log is', async () => {
    expect(await reasons('off', { lowerChanges: 'manual' })).toMatchObject({
      kernel: 'lower_changes is off in spite of lower-changes = "manual": the log says why',
    })
  })
})

test.each(['notify', 'reval'] as const)('with lower_changes=%s it is on rung kernel', async (mode) => {
  expect((await reasons(mode)).kernel).toBe('')
})

test('with lower_changes=manual it is not', async () => {
  expect((await reasons('manual')).kernel).toBe('lower_changes=manual leaves it to others')
})
