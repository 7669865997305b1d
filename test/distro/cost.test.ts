// SPDX-License-Identifier: MIT

/**
 * What following costs, in instructions: the number that an operation takes is the same each time, on any machine, so that
 * also one in a hundred shows. It says nothing of caches and locked instructions; `npm run bench -- kernel` measures time.
 *
 * LOWERWATCH_COST_PAGE=FILE writes what was counted into a page.
 */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { packaged, runInGuest } from './guest.js'
import { obtainImage } from './image.js'
import { moduleFor, releases } from './releases.js'

const here = dirname(fileURLToPath(import.meta.url))
const modes = ['off', 'manual', 'notify', 'reval'] as const
type Counts = Record<'stock' | (typeof modes)[number], number>

const tables: string[] = []
afterAll(() => {
  const { LOWERWATCH_COST_PAGE: page } = process.env
  if (page !== undefined) writeFileSync(page, `${head}\n${tables.join('\n')}`)
})

describe.each(releases)('instructions on Linux %s', (release) => {
  const counted = new Map<string, Counts>()
  /** Over all operations, the greatest of this. */
  const most = (of: (counts: Counts) => number) => Math.max(...[...counted.values()].map(of))

  beforeAll(async () => {
    const work = mkdtempSync(join(tmpdir(), 'lowerwatch-cost-'))
    const program = join(work, 'overlay-cost')
    try {
      execFileSync('gcc', ['-O2', '-static', '-Wall', '-Werror', '-o', program, join(here, 'overlay-cost.c')])
      const [module, image] = await Promise.all([moduleFor(release), obtainImage(release)])
      const step = (name: string, ...argv: string[]) => ({ name, argv })
      const steps = [
        step('load packaged', 'modprobe', '--dirname', packaged, 'overlay'),
        step('stock', '/overlay-cost', '/tmp', 'stock'),
        step('unload packaged', 'rmmod', 'overlay'),
        step('load patched', 'insmod', '/patched/overlay.ko'),
        step('patched', '/overlay-cost', '/tmp', ...modes),
      ]
      const files = { '/patched/overlay.ko': module, '/overlay-cost': program }
      const run = await runInGuest(image, steps, { files, counting: true })
      for (const [name, { status, output }] of run.steps) expect(status, `${name}: ${output}`).toBe(0)
      for (const name of ['stock', 'patched'])
        for (const line of run.steps.get(name)!.output.trim().split('\n')) {
          const [operation, mode, count] = line.split('\t')
          counted.set(operation!, { ...counted.get(operation!)!, [mode!]: Number(count) })
        }
      tables.push(tableOf(release, counted))
    } finally {
      rmSync(work, { recursive: true, force: true })
    }
  })

  it('off costs what stock does, within one in a hundred', () => {
    expect(counted.size).toBe(7)
    expect(most(({ off, stock }) => off / stock)).toBeLessThanOrEqual(1.01)
  })

  it('manual and notify cost at most one in ten more', () => {
    expect(most(({ manual, off }) => manual / off)).toBeLessThanOrEqual(1.1)
    expect(most(({ notify, off }) => notify / off)).toBeLessThanOrEqual(1.1)
  })
})

const head = `# What following costs in the kernel, in instructions

Written by \`LOWERWATCH_COST_PAGE=FILE npm run test:kernel:distro -- test/distro/cost.test.ts\`: kernels of the distribution as they are,
with their own overlayfs and with the module, one processor in software emulation that counts what it executes. The least of 401
calls each, with everything cached. Ratios to off.
`

function tableOf(release: string, counted: Map<string, Counts>): string {
  const rows = [...counted].map(([operation, { stock, off, manual, notify, reval }]) => {
    const ratios = [manual, notify, reval].map((count) => (count / off).toFixed(2))
    return `| ${[operation, stock, off, (off / stock).toFixed(3), ...ratios].join(' | ')} |`
  })
  return `## Linux ${release}

| operation | stock | off | off to stock | manual | notify | reval |
| --- | --- | --- | --- | --- | --- | --- |
${rows.join('\n')}
`
}
