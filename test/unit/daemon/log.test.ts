// SPDX-License-Identifier: MIT
import { expect, it } from 'vitest'
import { textOf } from '../../../src/daemon/log.js'

it('a line for a terminal has the time, the level, the message and then the fields', () => {
  const line = {
    level: 'info',
    time: '2026-01-02T03:04:05.678Z',
    overlay: '/merged',
    why: 'a b',
    n: 2,
    msg: 'ready',
  }
  expect(textOf(JSON.stringify(line))).toBe('03:04:05.678 info ready overlay=/merged why="a b" n=2\n')
})
