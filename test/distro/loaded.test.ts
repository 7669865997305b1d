// SPDX-License-Identifier: MIT

/**
 * `kernel module install` and `remove` on the machine that runs: in the guest, which has Node and this program, the module
 * is loaded by the mount that needs it, stays while an overlay is in use, and is exchanged when none is.
 */
import { beforeAll, describe, expect, it } from 'vitest'
import { obtainFor } from '../../src/kernel/module/commands.js'
import { type GuestRun, modulesRoot, python, runInGuest, says } from './guest.js'
import { obtainImage } from './image.js'
import { addProject, lowerwatch } from './project.js'
import { releases } from './releases.js'

describe.each(releases)('kernel module install and remove on the running Linux %s', (release) => {
  let run: GuestRun
  const said = (name: string) => run.steps.get(name)!.output.trim()

  beforeAll(async () => {
    const [obtained, image] = await Promise.all([obtainFor({ release }), obtainImage(release)])
    const option = (name: string) => ({ name, argv: says('/sys/module/overlay/parameters/lower_changes') })
    const held = (name: string, options: string, command: string) => {
      const step = lowerwatch(name, command)
      return { ...step, argv: [...python('holding.py', options), ...step.argv] }
    }
    const steps = [
      lowerwatch('install', 'install'),
      held('remove while it is used', 'lower_changes=notify', 'remove'),
      option('used'),
      lowerwatch('remove', 'remove'),
      option('removed'),
      held('install while the stock one is used', '', 'install'),
      option('stock used'),
      lowerwatch('install again', 'install'),
      option('installed'),
      lowerwatch('status', 'status'),
      lowerwatch('remove again', 'remove'),
      option('removed again'),
    ]
    run = await runInGuest(image, steps, {
      trees: { [modulesRoot]: image.root },
      add: (root) => addProject(root, obtained),
    })
  })

  it('the next mount loads what was installed', () => {
    expect(said('install')).toMatch(
      /^installed \S+\/updates\/lowerwatch\/overlay\.ko \(direct: DKMS is not installed\)$/m,
    )
    expect(said('install')).toMatch(/^overlayfs is not loaded: the next mount loads the patched one$/m)
  })

  it('a module in use stays, and it is said who uses it and what a reboot changes', () => {
    const lines = said('remove while it is used').split('\n')
    expect(lines).toContain('the patched overlayfs is in use and stays loaded:')
    expect(lines).toContainEqual(expect.stringMatching(/^ {2}mounted at \/tmp\/held\/m: \d+ holder$/))
    expect(lines).toContainEqual(
      expect.stringMatching(/^ {2}mounted at \/tmp\/held\/again in mnt:\[\d+\]: \d+ holder$/),
    )
    expect(lines).toContainEqual(expect.stringMatching(/^a reboot loads the stock one/))
    expect(said('used')).toBe('off')
    const stock = said('install while the stock one is used').split('\n')
    expect(stock).toContain('the stock overlayfs is in use and stays loaded:')
    expect(stock).toContainEqual(expect.stringMatching(/^a reboot loads the patched one/))
    expect(said('stock used')).toBe('absent')
  })

  it('is exchanged when nothing uses it', () => {
    expect(said('remove')).toMatch(
      /^nothing is installed\nmodprobe takes \S+\/kernel\/fs\/\S+\nthe stock overlayfs is loaded$/m,
    )
    expect(said('removed')).toBe('absent')
    expect(said('install again')).toMatch(/^the patched overlayfs is loaded$/m)
    expect(said('installed')).toBe('off')
    expect(said('status')).toMatch(/^ {2}loaded: +patched$/m)
    expect(said('status')).toMatch(
      /^ {2}installed: \S+\/updates\/lowerwatch\/overlay\.ko \(direct, Linux \S+\)$/m,
    )
    expect(said('remove again')).toMatch(/^the stock overlayfs is loaded$/m)
    expect(said('removed again')).toBe('absent')
  })

  it('ends each command well, and the kernel says nothing alarming', () => {
    expect([...run.steps].filter(([, { status }]) => status !== 0)).toEqual([])
    expect(run.splats).toEqual([])
  })
})
