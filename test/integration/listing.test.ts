// SPDX-License-Identifier: MIT

/** Listings are compared while others go on making names. */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { agrees } from '../../src/coherence/listing.js'
import { Oracle } from '../../src/coherence/oracle.js'
import type { Handle } from '../../src/native.js'
import { mountStage, open, scratch, stage } from './check-stage.js'

const base = scratch()

/** The same, before whose root is used each time `change` is made. */
function changing<T extends { root: Handle }>(of: T, change: () => void): T {
  return new Proxy(of, {
    get: (target, property) => {
      if (property === 'root') change()
      const value = Reflect.get(target, property, target)
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
}

test.each([
  ['all names', []],
  ['some names', ['0', '1', '2', '3']],
])('%s: what comes while two listings are read is not stale, what stays away is', async (_, names) => {
  const at = stage(base, 'tmpfs')
  for (const layer of [at.lower, at.upper]) mkdirSync(join(layer, 'd'))
  mountStage(at)
  const overlay = await open(at.merged)
  const oracle = await Oracle.create(overlay)
  onTestFinished(() => oracle.close())
  let made = 0
  const make = () => {
    if (made < 2) writeFileSync(join(at.lower, 'd', String(made++)), '')
  }
  const again = () => {
    for (const name of ['0', '1']) rmSync(join(at.lower, 'd', name))
    made = 0
  }
  expect(await agrees(overlay, changing(oracle, make), 'd', names), 'before the fresh one').toBe(true)
  expect(made).toBeGreaterThan(0)
  while (made < 2) make()
  again()
  expect(await agrees(changing(overlay, make), oracle, 'd', names), 'before the live one').toBe(true)
  expect(made).toBeGreaterThan(0)
  // The whole is on a mount of its own, whose directory has what the live one has not.
  rmSync(join(at.lower, 'd/0'))
  const other = stage(base, 'tmpfs')
  mkdirSync(join(other.lower, 'd'))
  mountStage(other)
  expect(await agrees(await open(other.merged), oracle, 'd', names), 'another listing').toBe(false)
})
