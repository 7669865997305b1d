// SPDX-License-Identifier: MIT

/** `lowerwatch probe` in Debian's unmodified kernels: each row as the expectation table says. */
import { writeFile } from 'node:fs/promises'
import { beforeAll, describe, expect, it } from 'vitest'
import type { ProbeReport } from '../../src/probe/run.js'
import { found, packaged, runInGuest } from './guest.js'
import { obtainImage } from './image.js'
import type { Initramfs } from './initramfs.js'
import { addProgram, program } from './project.js'
import { releases } from './releases.js'

/** What the experiments start. */
const programs = ['sh', 'true', 'sleep', 'rm', 'mount', 'umount', 'unshare', 'ip', 'btrfs', 'mkfs.btrfs']
/** These kernels have none of it: the option is that of the series. */
const without = /^overlay\/.*\/(notify|reval|manual)$/

function add(root: Initramfs): void {
  addProgram(root)
  for (const name of programs) root.program(found(name)!)
}

describe.each(releases)('probe on the unmodified Linux %s', (release) => {
  let report: ProbeReport
  let status: number | undefined
  let splats: string[]

  beforeAll(async () => {
    const load = [
      'modprobe',
      '--dirname',
      packaged,
      '--all',
      'loop',
      'btrfs',
      'overlay',
      'dummy',
      'netconsole',
    ]
    const steps = [{ name: 'modules', argv: load }, program('probe', 'probe', '--json')]
    const run = await runInGuest(await obtainImage(release), steps, { add, append: ['psi=1'] })
    expect(run.steps.get('modules')).toEqual({ status: 0, output: '' })
    const probe = run.steps.get('probe')
    status = probe?.status
    splats = run.splats
    const { LOWERWATCH_PROBE_REPORTS: reports } = process.env
    if (reports !== undefined) await writeFile(`${reports}/${release}.json`, probe?.output ?? '')
    report = JSON.parse(probe?.output ?? '')
  })

  it('says what the table says, and leaves nothing behind', () => {
    expect(report.rows.filter(({ status }) => status === 'differs')).toEqual([])
    expect(report.leftBehind).toEqual([])
    expect({ status, splats }).toEqual({ status: 0, splats: [] })
  })

  it('skips what these kernels do not have, and nothing else', () => {
    const skipped = report.rows.filter(({ status }) => status === 'skipped')
    expect(skipped.filter(({ id }) => !without.test(id))).toEqual([])
  })
})
