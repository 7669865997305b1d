// SPDX-License-Identifier: MIT

<<<<<<< HEAD
/**
 * The overlayfs series without the daemon. Each row of overlayfs_cases.py must hold when the changing call has
 * returned, in every mode, and not on the stock kernel; then random operations against a fresh mount, and races.
 * LOWERWATCH_KERNEL_OPS and LOWERWATCH_KERNEL_SECONDS lengthen those.
 */
import { execFileSync } from 'node:child_process'
import { dirname, join } from 'node:path'
=======
>>>>>>> 111b33375eeca616093c381df6e0adae644e2da4
import { fileURLToPath } from 'node:url'
import { beforeAll, describe, expect, it } from 'vitest'
import { debug, type GuestRun, guest, kernelFor, versionsWith } from './guest.js'

<<<<<<< HEAD
const here = dirname(fileURLToPath(import.meta.url))
const modes = ['reval', 'notify', 'manual'] as const
const operations = Number(process.env.LOWERWATCH_KERNEL_OPS ?? 1_500)
const raceSeconds = Number(process.env.LOWERWATCH_KERNEL_SECONDS ?? (debug ? 60 : 40))
const seed = Number(process.env.LOWERWATCH_RANDOM_SEED ?? Date.now() % 2 ** 31)

const listing =
  'import sys; sys.path.insert(0, sys.argv[1]); sys.dont_write_bytecode = True; import overlayfs_cases as c; print("\\n".join(n for n, *_ in c.CASES))'
const names = execFileSync('python3', ['-c', listing, here], { encoding: 'utf8' }).trim().split('\n')

const python = (script: string, ...given: (string | number)[]) => [
  'python3',
  '-B',
  join(here, script),
  ...given.map(String),
]

interface Row {
  result: string
  why: string
}

function rowsOf({ stdout }: GuestRun): Map<string, Row> {
  const rows = new Map<string, Row>()
  for (const line of stdout.split('\n')) {
    const found = /^(ok|not ok|skip) (\w+)(?:: (.*))?$/.exec(line)
    if (found !== null) rows.set(found[2]!, { result: found[1]!, why: found[3] ?? '' })
  }
  return rows
}

/** Rows that are about a limit of following, and not about what a stock kernel gets wrong. */
const rightOnStock = new Set([
  'whiteout_in_upper_hides_what_appears_below',
  'stacks_of_a_held_dir_do_not_pile_up',
])

describe.each(await versionsWith('overlayfs'))('overlayfs on %s', (version) => {
  let stock: Map<string, Row>
  const patched = new Map<string, GuestRun>()

  beforeAll(async () => {
    stock = rowsOf(await guest(await kernelFor(version, 'stock'), python('overlayfs_cases.py', 'stock')))
    const build = await kernelFor(version, 'patched')
    for (const mode of modes) patched.set(mode, await guest(build, python('overlayfs_cases.py', mode)))
  })

  describe.each(modes)('lower_changes=%s', (mode) => {
    it.for(names)('%s', (name, { skip }) => {
      const row = rowsOf(patched.get(mode)!).get(name)
      if (row?.result === 'skip') return skip(row.why)
      expect(row, patched.get(mode)?.stderr).toEqual({ result: 'ok', why: '' })
      if (!rightOnStock.has(name)) expect(stock.get(name)?.result, 'on the stock kernel').not.toBe('ok')
    })

    it('says nothing alarming', () => {
      expect(patched.get(mode)?.splats).toEqual([])
    })

    it(`${operations} random operations, seed ${seed}`, async () => {
      const run = await guest(
        await kernelFor(version, 'patched'),
        python('overlayfs_random.py', mode, seed, operations),
      )
      expect(run.stdout + run.stderr).toContain('no difference')
      expect(run).toMatchObject({ status: 0, splats: [] })
    })
  })

  it.each(['notify', 'reval', 'switch'])(`${raceSeconds} s of races, %s`, async (mode) => {
    const run = await guest(
      await kernelFor(version, 'patched'),
      python('overlayfs_races.py', mode, raceSeconds),
    )
    expect(run.stdout + run.stderr).toContain('no difference')
    expect(run).toMatchObject({ status: 0, splats: [] })
  })
=======
const withOverlayfs = await versionsWith('overlayfs')
const modes = ['notify', 'reval', 'manual']

/** Random operations per mode, and seconds of races; more of both by hand. */
const operations = Number(process.env.LOWERWATCH_KERNEL_OPERATIONS ?? (debug ? 1_000 : 4_000))
const seed = Number(process.env.LOWERWATCH_KERNEL_SEED ?? 1)
const seconds = Number(process.env.LOWERWATCH_KERNEL_SECONDS ?? (debug ? 20 : 15))

/** One of the Python programs beside this file, in a kernel with both series. */
async function run(
  version: string,
  kind: 'stock' | 'patched',
  program: string,
  args: (string | number)[],
): Promise<GuestRun> {
  const path = fileURLToPath(new URL(program, import.meta.url))
  return guest(await kernelFor(version, kind), ['python3', '-B', path, ...args.map(String)])
}

interface Cases {
  ok: string[]
  failed: string[]
  skipped: string[]
  result: GuestRun
}

async function cases(version: string, kind: 'stock' | 'patched', mode: string): Promise<Cases> {
  const result = await run(version, kind, 'overlayfs_cases.py', [mode])
  const rows = (kind: string) =>
    result.stdout
      .split('\n')
      .filter((line) => line.startsWith(`${kind} `))
      .map((line) => line.slice(kind.length + 1))
  return { ok: rows('ok'), failed: rows('not ok'), skipped: rows('skip'), result }
}

describe.each(withOverlayfs)('overlayfs on %s', (version) => {
  let stock: Cases
  beforeAll(async () => {
    stock = await cases(version, 'stock', 'stock')
  }, 300_000)

  /** What a kernel lacks, or a mode is not about, and nothing else. */
  const mayBeSkipped = /: (no |is about |kernfs reports nothing)/

  it.each(modes)(
    '%s: every case is right when the changing call has returned',
    async (mode) => {
      const found = await cases(version, 'patched', mode)
      expect(found.failed).toEqual([])
      expect(found.result.stderr).toBe('')
      expect(found.result.splats).toEqual([])
      expect(found.result.status).toBe(0)
      expect(found.skipped.filter((row) => !mayBeSkipped.test(row))).toEqual([])
      expect(found.ok.length).toBeGreaterThan(45)
    },
    300_000,
  )

  it('has no case that stock passes as well, but for those about what must not become worse', () => {
    expect(stock.ok).toEqual([
      'whiteout_in_upper_hides_what_appears_below',
      'stacks_of_a_held_dir_do_not_pile_up',
    ])
    expect(stock.failed.length).toBeGreaterThan(40)
  })

  it.each(modes)(
    '%s: shows what a fresh mount shows, after random changes',
    async (mode) => {
      const found = await run(version, 'patched', 'overlayfs_random.py', [mode, seed, operations])
      expect(found.stdout).toContain(`${operations} operations, no difference`)
      expect(found.splats).toEqual([])
      expect(found.status).toBe(0)
    },
    900_000,
  )

  it.each([...modes, 'switch'])(
    '%s: survives races, and shows what a fresh mount shows',
    async (mode) => {
      const found = await run(version, 'patched', 'overlayfs_races.py', [mode, seconds])
      expect(found.stdout).toContain('no difference')
      expect(found.splats).toEqual([])
      expect(found.status).toBe(0)
    },
    300_000,
  )
>>>>>>> 111b33375eeca616093c381df6e0adae644e2da4
})
