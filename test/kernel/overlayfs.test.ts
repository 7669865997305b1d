// SPDX-License-Identifier: MIT

import { fileURLToPath } from 'node:url'
import { beforeAll, describe, expect, it } from 'vitest'
import { debug, type GuestRun, guest, kernelFor, versionsWith } from './guest.js'

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
})
