// SPDX-License-Identifier: MIT
import { expect, test } from 'vitest'
import { Budget } from '../../../src/refresh/budget.js'

test('the first refresh after quiet is served at once, whatever it costs', () => {
  const budget = new Budget(0.1)
  expect(budget.waitMs()).toBe(0)
})

test('after 146 ms of refreshing at a share of 10 % the next one waits more than a second', () => {
  const budget = new Budget(0.1)
  budget.charge(146)
  expect(budget.waitMs()).toBeGreaterThan(1_000)
  expect(budget.waitMs()).toBeLessThan(1_500)
})

test('cheap refreshes do not wait for one another', () => {
  const budget = new Budget(0.1)
  for (let i = 0; i < 100; i++) budget.charge(0.1)
  expect(budget.waitMs()).toBe(0)
})

test('a larger share waits less', () => {
  const small = new Budget(0.01)
  const large = new Budget(0.5)
  small.charge(100)
  large.charge(100)
  expect(large.waitMs()).toBeLessThan(small.waitMs() / 10)
})
