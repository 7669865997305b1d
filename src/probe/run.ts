// SPDX-License-Identifier: MIT

/** The process inside: features, then experiments one after the other, each cleared away before the next. */
import { cpus, release } from 'node:os'
import { isSyscallError } from '../errors.js'
import { type ExpectationTable, expectation, unmeasured } from './expectations.js'
import { allExperiments } from './experiments.js'
import { type Feature, type FeatureId, findFeatures } from './features.js'
import type { SandboxPlan } from './plan.js'
import { Sandbox } from './sandbox.js'
import { type Experiment, type Observation, type Row, type RowPlan, Skip } from './types.js'

export interface ProbeReport {
  /** As uname(2) says; for the reader, and used for nothing. */
  kernel: string
  /** Model of the processor: numbers of a kernel that is itself a program are not those of a machine. */
  processor: string
  user: string
  features: Feature[]
  rows: Row[]
  /** What could not be cleared away. */
  leftBehind: string[]
}

export interface ProbeRequest {
  plan: SandboxPlan
  table: ExpectationTable
  wanted: (row: string) => boolean
  /** True once the probe was told to end. */
  interrupted: () => boolean
}

export async function runProbe({ plan, table, wanted, interrupted }: ProbeRequest): Promise<ProbeReport> {
  const sandbox = new Sandbox(plan)
  try {
    const features = await findFeatures(sandbox.context(new Map()))
    const leftBehind = await sandbox.settle()
    const context = sandbox.context(features)
    const has = new Set<FeatureId>([...features.values()].filter((f) => f.has).map((f) => f.id))
    const rows: Row[] = []
    for (const experiment of allExperiments()) {
      const plans = experiment.rows.filter((row) => wanted(row.id))
      if (plans.length === 0) continue
      if (interrupted()) break
      const seen = await observe(experiment, context).finally(async () => {
        leftBehind.push(...(await sandbox.settle()))
      })
      rows.push(...plans.map((row) => judge(experiment, row, seen(row.id), expectation(table, row.id, has))))
      // Signals are delivered between experiments.
      await new Promise((resolve) => setImmediate(resolve))
    }
    const user = context.privileged ? 'root' : 'root of a user namespace'
    const processor = cpus()[0]?.model.trim() ?? ''
    return { kernel: release(), processor, user, features: [...features.values()], rows, leftBehind }
  } finally {
    await sandbox.settle()
    sandbox.close()
  }
}

type Answer = (id: string) => Observation | Skip

async function observe(experiment: Experiment, context: ReturnType<Sandbox['context']>): Promise<Answer> {
  try {
    const rows = await experiment.run(context)
    return (id) => rows.get(id) ?? new Skip('not reached')
  } catch (error) {
    const answer = failure(error, context.privileged)
    return () => answer
  }
}

function failure(error: unknown, privileged: boolean): Observation | Skip {
  if (error instanceof Skip) return error
  if (!privileged && isSyscallError(error, 'EPERM', 'EACCES'))
    return new Skip(`not allowed here: ${error.message}`)
  return { seen: `failed: ${error instanceof Error ? error.message : String(error)}` }
}

/** A row that no kernel at hand could do has nothing to be compared with, but what was not even heard is no answer. */
export function isAsExpected(seen: string, expected: string | null): boolean {
  return seen === expected || (expected === unmeasured && !/^(failed|refused): /.test(seen))
}

function judge(
  experiment: Experiment,
  row: RowPlan,
  answer: Observation | Skip,
  expected: string | null,
): Row {
  const blank = { ...row, group: experiment.group, reason: '', measured: {}, events: [] }
  if (answer instanceof Skip)
    return { ...blank, status: 'skipped', expected: null, seen: null, reason: answer.message }
  const { seen, measured = {}, events = [], why = '' } = answer
  const status = isAsExpected(seen, expected) ? 'ok' : 'differs'
  return { ...blank, status, expected: expected ?? 'not in the table', seen, reason: why, measured, events }
}
