// SPDX-License-Identifier: MIT

import { display } from '../bytes.js'
import type { PatchState, PatchStatus } from './inspect.js'

const words: Record<PatchState, string> = {
  applied: 'applied already',
  applies: 'applies',
  partial: 'partly in',
  conflict: 'conflicts',
}

/** Lines for people: the patch and its state, then every hunk that has no place and why. */
export function describeStatus({ patch, state, conflicts }: PatchStatus): string[] {
  const head = `${words[state].padEnd(15)} ${patch.series}/${patch.name.split('-')[0]} ${patch.subject}`
  return [head, ...conflicts.map((c) => `    ${display(c.file)}, hunk ${c.hunk}: ${display(c.why)}`)]
}

/** One line: how many patches are in which state. */
export function summarize(patches: PatchStatus[]): string {
  const count = (state: PatchState) => patches.filter((p) => p.state === state).length
  const parts = [
    [count('applied'), 'in'],
    [count('partial'), 'partly in'],
    [count('applies') + count('conflict'), 'absent'],
  ] as const
  return parts.map(([number, word]) => `${number} ${word}`).join(', ')
}
