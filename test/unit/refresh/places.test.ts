// SPDX-License-Identifier: MIT
import { expect, test } from 'vitest'
import type { OpenLayer } from '../../../src/overlay/types.js'
import { reached } from '../../../src/refresh/places.js'

const layer = { index: 1 } as OpenLayer
const other = { index: 2 } as OpenLayer
const from = (path: string, ...renames: [string, string][]) => [
  ...reached(
    renames.map(([a, b]) => ({ layer, from: a, to: b })),
    layer,
    path,
  ),
]

test('a directory and what is below it are followed, from one rename to the next', () => {
  expect(from('a', ['a', 'b'], ['b', 'c/d'])).toEqual(['b', 'c/d'])
  expect(from('a/x/y', ['a', 'b'], ['b/x', 'z'])).toEqual(['b/x/y', 'z/y'])
  expect(from('ab', ['a', 'b'])).toEqual([])
  expect([...reached([{ layer: other, from: 'a', to: 'b' }], layer, 'a')]).toEqual([])
})

test('of an exchange each half leads to the other place', () => {
  expect(from('a', ['a', 'b'], ['b', 'a'])).toEqual(['b'])
  expect(from('b', ['a', 'b'], ['b', 'a'])).toEqual(['a'])
})

test('renames into one another end', () => {
  const renames = Array.from({ length: 500 }, (_, at): [string, string] =>
    at % 2 === 0 ? ['a', 'b/a'] : ['b', 'a'],
  )
  expect(from('a', ...renames).length).toBeLessThanOrEqual(64)
})
