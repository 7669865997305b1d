// SPDX-License-Identifier: MIT

import { execFileSync } from 'node:child_process'
import { describe, expect, it } from 'vitest'
import { compareDebian } from '../../../src/kernel/apt.js'

describe('compareDebian', () => {
  const sorted = [
    '6.12.94-1',
    '6.12.95-1~bpo12+1',
    '6.12.95-1',
    '6.12.95-1+deb13u1',
    '6.12.107-1',
    '7.2~rc7-1~exp1',
    '7.2-1',
    '7.2.9-1~bpo13+1',
    '7.2.13-1',
    '7.2.13-2',
    '7.2.13-10',
  ]

  it('sorts releases, back-ports and candidates', () => {
    expect([...sorted].reverse().sort(compareDebian)).toEqual(sorted)
  })

  it('is of one opinion with dpkg', ({ skip }) => {
    try {
      execFileSync('dpkg', ['--version'], { stdio: 'ignore' })
    } catch {
      skip('dpkg is not installed')
    }
    for (let i = 1; i < sorted.length; i++)
      execFileSync('dpkg', ['--compare-versions', sorted[i - 1]!, 'lt', sorted[i]!])
  })
})
