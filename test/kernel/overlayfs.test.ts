// SPDX-License-Identifier: MIT

/**
 * The overlayfs series without the daemon. Each row of overlayfs_cases.py must hold when the changing call has
 * returned, in every mode, and not on the stock kernel; then random operations against a fresh mount, and races.
 * LOWERWATCH_KERNEL_OPS and LOWERWATCH_KERNEL_SECONDS lengthen those.
 */
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { beforeAll, describe, expect, it } from 'vitest'
import type { Build } from '../../src/kernel/build.js'
import { debug, type GuestRun, guest, kernelFor, versionsWith } from './guest.js'
import { caseNames, type Row, rightOnStock, rowsOf } from './rows.js'

const here = dirname(fileURLToPath(import.meta.url))
const modes = ['reval', 'notify', 'manual'] as const
const operations = Number(process.env.LOWERWATCH_KERNEL_OPS ?? 1_500)
const optionSets = ['', 'index=on,redirect_dir=on', 'index=on,metacopy=on,redirect_dir=on']
/** Before 7.0 a user-mode kernel has one processor, on which less can race. */
const raceSeconds = (version: string) =>
  Number(process.env.LOWERWATCH_KERNEL_SECONDS ?? (debug ? 60 : version.startsWith('6.') ? 10 : 30))
const seed = Number(
  process.env.LOWERWATCH_RANDOM_SEED ?? (process.env.CI === 'true' ? 101 : Date.now() % 2 ** 31),
)

const names = caseNames()

const python = (script: string, ...given: (string | number)[]) => [
  'python3',
  '-B',
  join(here, script),
  ...given.map(String),
]

/** Runs a command in a kernel that has overlayfs: in one that has it as a module, this is loaded first. */
async function run(version: string, kind: 'stock' | 'patched', argv: string[]): Promise<GuestRun> {
  const build = await kernelFor(version, kind)
  if (debug !== 'modules') return guest(build, argv)
  return guest(build, python('overlayfs_module.py', moduleOf(build), 'exec', ...argv))
}

const moduleOf = (build: Build) => `${build.directory}/fs/overlayfs/overlay.ko`

describe.each(await versionsWith('overlayfs'))('overlayfs on %s', (version) => {
  let stock: Map<string, Row>
  const patched = new Map<string, GuestRun>()

  beforeAll(async () => {
    stock = rowsOf(await run(version, 'stock', python('overlayfs_cases.py', 'stock')))
    for (const mode of modes)
      patched.set(mode, await run(version, 'patched', python('overlayfs_cases.py', mode)))
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

    it.each(optionSets)(`${operations} random operations, seed ${seed}, '%s'`, async (options) => {
      const done = await run(
        version,
        'patched',
        python('overlayfs_random.py', mode, seed, operations, options),
      )
      expect(done.stdout + done.stderr).toContain('no difference')
      expect(done).toMatchObject({ status: 0, splats: [] })
    })
  })

  it.each([...modes, 'switch'])(`${raceSeconds(version)} s of races, %s`, async (mode) => {
    const done = await run(version, 'patched', python('overlayfs_races.py', mode, raceSeconds(version)))
    expect(done.stdout + done.stderr).toContain('no difference')
    expect(done).toMatchObject({ status: 0, splats: [] })
  })

  // Where it is none, this is not a test that is skipped: there is nothing to load.
  if (debug === 'modules')
    it('is loaded, used and unloaded 50 times', async () => {
      const build = await kernelFor(version, 'patched')
      const done = await guest(build, python('overlayfs_module.py', moduleOf(build), 50))
      expect(done.stdout + done.stderr).toContain('50 times loaded')
      expect(done).toMatchObject({ status: 0, splats: [] })
    })
})
