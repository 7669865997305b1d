// SPDX-License-Identifier: MIT

/** The expectation table: what each row says on a kernel that has these features. Data, in expectations.json. */
import { readFileSync } from 'node:fs'
import * as v from 'valibot'
import { LowerwatchError } from '../errors.js'
import { type FeatureId, featureIds } from './features.js'

const when = v.pipe(
  v.string(),
  v.check((text) => text.split(' ').every(isFeatureOrNot), 'names a feature that there is not'),
)

/** One answer for all kernels, or `[features, answer]`: the first whose features are all there counts. */
const Expectation = v.union([v.string(), v.array(v.tuple([when, v.string()]))])

const Table = v.object({
  format: v.literal(1),
  about: v.optional(v.string()),
  rows: v.record(v.string(), Expectation),
})

export type ExpectationTable = v.InferOutput<typeof Table>

/** In the table: no run has shown it yet. */
export const unmeasured = 'unmeasured'

export const defaultTable = new URL('./expectations.json', import.meta.url)

/** @throws LowerwatchError CONFIG when the file is not there or no such table. */
export function loadTable(file: string | URL = defaultTable): ExpectationTable {
  const name = file instanceof URL ? file.pathname : file
  let data: unknown
  try {
    data = JSON.parse(readFileSync(file, 'utf8'))
  } catch (error) {
    const why = (error as NodeJS.ErrnoException).code === 'ENOENT' ? 'no such file' : (error as Error).message
    throw new LowerwatchError('CONFIG', `${name}: ${why}`, { cause: error })
  }
  const checked = v.safeParse(Table, data)
  if (checked.success) return checked.output
  const { path, message } = checked.issues[0]
  const place = path?.map((item) => String(item.key)).join('.') ?? ''
  throw new LowerwatchError('CONFIG', `${name}: ${place === '' ? '' : `${place}: `}${message}`)
}

/** What a row should say with these features; null when the table does not know it. */
export function expectation(
  table: ExpectationTable,
  row: string,
  features: ReadonlySet<FeatureId>,
): string | null {
  const entry = table.rows[row]
  if (entry === undefined) return null
  if (typeof entry === 'string') return entry
  return entry.find(([words]) => words.split(' ').every((word) => holds(word, features)))?.[1] ?? null
}

function holds(word: string, features: ReadonlySet<FeatureId>): boolean {
  if (word === 'otherwise') return true
  return word.startsWith('!') ? !features.has(word.slice(1) as FeatureId) : features.has(word as FeatureId)
}

function isFeatureOrNot(word: string): boolean {
  return word === 'otherwise' || (featureIds as string[]).includes(word.replace(/^!/, ''))
}
