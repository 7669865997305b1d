// SPDX-License-Identifier: MIT
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { expectation, loadTable } from '../../../src/probe/expectations.js'
import { allExperiments } from '../../../src/probe/experiments.js'
import type { FeatureId } from '../../../src/probe/features.js'
import { isAsExpected } from '../../../src/probe/run.js'

const directory = mkdtempSync(join(tmpdir(), 'lowerwatch-'))
afterAll(() => rmSync(directory, { recursive: true }))

function tableOf(rows: unknown) {
  const file = join(directory, 'table.json')
  writeFileSync(file, typeof rows === 'string' ? rows : JSON.stringify({ format: 1, rows }))
  return () => loadTable(file)
}

describe('the expectation table', () => {
  it('has every row, and no row that there is not', () => {
    const rows = allExperiments().flatMap((experiment) => experiment.rows.map(({ id }) => id))
    expect(Object.keys(loadTable().rows).sort()).toEqual([...rows].sort())
    expect(new Set(rows).size).toBe(rows.length)
  })

  it('answers each row whatever the features are', () => {
    const table = loadTable()
    for (const row of Object.keys(table.rows)) expect(expectation(table, row, new Set())).not.toBeNull()
  })

  it('takes the first answer whose features are all there', () => {
    const table = tableOf({
      same: 'x',
      row: [
        ['kernfs-events !mount-events', 'a'],
        ['mount-events', 'b'],
        ['otherwise', 'c'],
      ],
      partial: [['admin', 'd']],
    })()
    const ask = (row: string, ...features: FeatureId[]) => expectation(table, row, new Set(features))
    expect(ask('same')).toBe('x')
    expect(ask('row', 'kernfs-events')).toBe('a')
    expect(ask('row', 'kernfs-events', 'mount-events')).toBe('b')
    expect(ask('row')).toBe('c')
    expect(ask('partial')).toBeNull()
    expect(ask('nowhere')).toBeNull()
  })

  it.each([
    ['a feature that there is not', { row: [['linux-7', 'x']] }, /rows\.row.*: names a feature/],
    ['no answer', { row: [['admin']] }, /rows\.row/],
    ['no JSON', '{', /table\.json: .*JSON/],
    ['another format', '{"format": 2, "rows": {}}', /format/],
  ])('refuses %s', (_, rows, message) => {
    expect(tableOf(rows)).toThrow(message)
  })

  it('says which file is missing', () => {
    expect(() => loadTable('/none.json')).toThrow('/none.json: no such file')
  })
})

describe('a row that no run has shown', () => {
  it.each([
    ['CREATE', true],
    ['nothing', true],
    ['refused: ENODEV', false],
    ['failed: EIO', false],
  ])('%s', (seen, ok) => expect(isAsExpected(seen, 'unmeasured')).toBe(ok))

  it('is none where the table knows the refusal', () =>
    expect(isAsExpected('refused: EINVAL', 'refused: EINVAL')).toBe(true))
})
