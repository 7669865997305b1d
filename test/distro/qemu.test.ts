// SPDX-License-Identifier: MIT

/**
 * The module that `lowerwatch kernel module build` makes, in the kernel of the distribution that it is for: the coherence
 * cases of test/kernel on the overlayfs that the distribution made, on ours, and its own again, in one boot.
 */
import { beforeAll, describe, expect, it } from 'vitest'
import { caseNames, type Row, rightOnStock, rowsOf } from '../kernel/rows.js'
import { type GuestRun, packaged, python, runInGuest, says } from './guest.js'
import { obtainImage } from './image.js'
import type { Step } from './qemu.js'
import { moduleFor, releases } from './releases.js'

const modes = ['reval', 'notify', 'manual'] as const
const names = caseNames()

const step = (name: string, ...argv: string[]): Step => ({ name, argv })
const option = '/sys/module/overlay/parameters/lower_changes'
const said = (name: string) => step(name, ...says(option))

const steps = [
  step('others', 'modprobe', '--dirname', packaged, '--all', 'loop', 'xfs', 'btrfs'),
  step('load packaged', 'modprobe', '--dirname', packaged, 'overlay'),
  said('option of packaged'),
  step('stock', ...python('overlayfs_cases.py', 'stock')),
  step('kernfs stock', ...python('kernfs_rows.py', 'stock')),
  step('unload packaged', 'rmmod', 'overlay'),
  step('load patched', 'insmod', '/patched/overlay.ko'),
  said('option of patched'),
  ...modes.map((mode) => step(mode, ...python('overlayfs_cases.py', mode))),
  step('kernfs notify', ...python('kernfs_rows.py', 'notify')),
  step('unload patched', 'rmmod', 'overlay'),
  step('load packaged again', 'modprobe', '--dirname', packaged, 'overlay'),
  said('option of packaged again'),
  step('stock again', ...python('overlayfs_cases.py', 'stock', 'whiteout_in_upper_hides_what_appears_below')),
  step('unload packaged again', 'rmmod', 'overlay'),
]

describe.each(releases)('the unmodified Linux %s, in software emulation', (release) => {
  let run: GuestRun
  const rows = new Map<string, Map<string, Row>>()

  beforeAll(async () => {
    const [module, image] = await Promise.all([moduleFor(release), obtainImage(release)])
    run = await runInGuest(image, steps, { files: { '/patched/overlay.ko': module } })
    for (const [name, { output }] of run.steps) rows.set(name, rowsOf({ stdout: output }))
  })

  it('loads and unloads its own overlayfs, ours, and its own again', () => {
    const status = [...run.steps].filter(([name]) => /load|others/.test(name))
    expect(status.map(([name, { status, output }]) => [name, status, output])).toEqual(
      steps.filter(({ name }) => /load|others/.test(name)).map(({ name }) => [name, 0, '']),
    )
    const has = (name: string) => run.steps.get(name)?.output.trim()
    expect(has('option of packaged')).toBe('absent')
    expect(has('option of patched')).toBe('off')
    expect(has('option of packaged again')).toBe('absent')
    expect(rows.get('stock again')?.size).toBe(1)
    expect([...rows.get('stock again')!.values()]).toEqual([{ result: 'ok', why: '' }])
  })

  it('says nothing alarming', () => {
    expect(run.splats).toEqual([])
  })

  describe.each(modes)('lower_changes=%s', (mode) => {
    it.for(names)('%s', (name, { skip }) => {
      const row = rows.get(mode)?.get(name)
      if (row?.result === 'skip') return skip(row.why)
      expect(row, run.steps.get(mode)?.output).toEqual({ result: 'ok', why: '' })
      if (!rightOnStock.has(name)) expect(rows.get('stock')?.get(name)?.result, 'stock').not.toBe('ok')
    })
  })

  it('has a kernfs that tells nobody what the kernel makes: notify looks such a layer up each time', () => {
    expect(rows.get('notify')?.get('cgroup_is_followed_by_its_events')).toEqual({
      result: 'skip',
      why: 'kernfs reports nothing here: its series is not in this kernel',
    })
    const found = [...rows.get('kernfs notify')!]
    expect(found).toHaveLength(4)
    expect(found.filter(([, { result }]) => result !== 'ok')).toEqual([])
    expect([...rows.get('kernfs stock')!.values()].map(({ result }) => result)).toEqual(
      found.map(() => 'not ok'),
    )
  })
})
