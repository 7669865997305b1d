// SPDX-License-Identifier: MIT

/**
 * Policy `lower-changes`, on overlays that are mounted without the option; and what rung "invalidate" tells the kernel.
 * All but the first need a patched overlayfs: test/kernel/daemon.test.ts runs them in one.
 */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { fromText } from '../../src/bytes.js'
import { Kind, native } from '../../src/native.js'
import { discoverOverlays, findOverlay } from '../../src/overlay/discover.js'
import { openOverlay } from '../../src/overlay/open.js'
import type { LowerChangesMode } from '../../src/overlay/types.js'
import { OverlayController } from '../../src/refresh/controller.js'
import { hasLowerChanges } from '../../src/refresh/lower-changes.js'
import { defaultPolicy } from '../../src/refresh/policy.js'
import { absent, holds, put, touch } from './cases/looks.js'
import { Cleanup } from './fixture/cleanup.js'
import { type Daemon, type DaemonOptions, lowerwatch, startDaemon } from './fixture/daemon.js'
import { mountLines } from './fixture/environment.js'
import { eventually, type Verdict } from './fixture/eventually.js'
import { temporaryDirectory } from './fixture/lowers.js'
import { makeOverlay, type Overlay, type OverlayRequest } from './fixture/overlay.js'

vi.setConfig({ testTimeout: 30_000 })

let cleanup: Cleanup

beforeEach(() => {
  cleanup = new Cleanup()
})
afterEach(() => cleanup.run(), 30_000)

async function overlayFor(request: Partial<OverlayRequest> = {}): Promise<Overlay> {
  const overlay = await makeOverlay({ lowers: 1, upper: true, lowerFs: 'tmpfs', ...request })
  cleanup.defer('overlay', () => overlay.unmount())
  return overlay
}

async function daemonFor(overlay: Overlay, config: string, options: DaemonOptions = {}): Promise<Daemon> {
  const daemon = await startDaemon(overlay.mountPoints, { config, ...options })
  cleanup.defer('daemon', async () => {
    if (daemon.process.exitCode === null && daemon.process.signalCode === null) await daemon.stop()
  })
  return daemon
}

/** What the mount table says; `off`, the default of the module, is not printed. */
function modeOf(mountPoint: string): string {
  const line = mountLines().find((mount) => mount.mountPoint === mountPoint)?.line ?? 'not mounted'
  return /\blower_changes=(\w+)/.exec(line)?.[1] ?? (line === 'not mounted' ? line : 'off')
}

/** As an administrator does, with a tool that knows fsconfig(2). */
async function setMode(overlay: Overlay, mode: LowerChangesMode): Promise<void> {
  const lane = new native.Lane('test')
  const root = await native.openTree(lane, fromText(overlay.mountPoint), { clone: false })
  const options: [string, string][] = [['lower_changes', mode]]
  await native.reconfigure(lane, [{ overlay: root, readOnly: overlay.upper === null, options }])
  root.close()
  lane.close()
}

async function soon(look: () => Verdict | Promise<Verdict>, what: string, withinMs = 2_000): Promise<void> {
  expect((await eventually(look, { withinMs })).wrong, what).toBeNull()
}

/** One change of the lower shows, `withinMs` after the changing call has returned. */
async function expectServed(overlay: Overlay, name: string, withinMs = 2_000): Promise<void> {
  touch(overlay.at(name))
  put(overlay.low(1, name), 'served')
  await soon(() => holds(overlay.at(name), 'served'), `${name} is served`, withinMs)
}

/** Lines of the log about the policy, as `level: text`. */
const said = (daemon: Daemon) =>
  daemon.log
    .filter((line) => /lower.changes/.test(line))
    .map((line) => JSON.parse(line))
    .map(({ level, msg }) => `${level}: ${msg}`)

const expectRung = async (daemon: Daemon, overlay: Overlay, rung: string) =>
  soon(async () => {
    const seen = (await daemon.overlay(overlay.mountPoint)).rung
    return seen === rung ? null : `rung ${seen}, not ${rung}`
  }, `rung ${rung}`)

const whyStock = hasLowerChanges() ? 'this overlayfs has the option lower_changes' : ''
const whyPatched = hasLowerChanges() ? '' : 'this overlayfs has no lower_changes option'

describe.skipIf(whyStock !== '')(`a stock overlayfs (skipped: ${whyStock})`, () => {
  test('is served as before, and it is said once', async () => {
    const overlay = await overlayFor()
    const daemon = await daemonFor(overlay, 'lower-changes = "notify"')
    await expectServed(overlay, 'a')
    await expectServed(overlay, 'b')
    expect(said(daemon)).toEqual([
      'warn: not lower-changes = "notify": this overlayfs has no lower_changes option',
    ])
  })
})

describe.skipIf(whyPatched !== '')(`policy lower-changes (skipped: ${whyPatched})`, () => {
  const stacks: [string, Partial<OverlayRequest>][] = [
    ['with an upper', {}],
    ['without an upper', { lowers: 2, upper: false }],
  ]

  test.each(stacks)('"notify": the kernel follows until the daemon ends, %s', async (_, request) => {
    const overlay = await overlayFor(request)
    touch(overlay.at('before'))
    put(overlay.low(1, 'before'), 'before')
    const daemon = await daemonFor(overlay, 'lower-changes = "notify"')
    expect(holds(overlay.at('before'), 'before')).toBeNull()
    expect(modeOf(overlay.mountPoint)).toBe('notify')
    await expectServed(overlay, 'at-once', 0)
    await daemon.settle()
    const status = await daemon.overlay(overlay.mountPoint)
    expect(status).toMatchObject({ rung: 'kernel', changes: 0, refreshes: 0, unresolved: [] })
    expect(said(daemon)).toEqual([
      'info: lower_changes was off, switched to notify',
      'info: the kernel follows (lower_changes=notify), nothing is watched',
    ])
    await daemon.stop()
    expect(modeOf(overlay.mountPoint)).toBe('off')
    touch(overlay.at('after'))
    put(overlay.low(1, 'after'), 'after')
    expect(absent(overlay.at('after')), 'nobody follows').toBeNull()
  })

  test.each(stacks)('"manual": the kernel is told until the daemon ends, %s', async (_, request) => {
    const overlay = await overlayFor(request)
    const daemon = await daemonFor(overlay, 'lower-changes = "manual"')
    expect(modeOf(overlay.mountPoint)).toBe('manual')
    await expectServed(overlay, 'soon')
    await daemon.settle()
    const status = await daemon.overlay(overlay.mountPoint)
    expect(status).toMatchObject({ rung: 'invalidate', nudges: 0, swaps: 0, unresolved: [] })
    expect(status.changes).toBeGreaterThan(0)
    await daemon.stop()
    expect(modeOf(overlay.mountPoint)).toBe('off')
  })

  test('"leave", the default, and a single refresh switch nothing', async () => {
    const overlay = await overlayFor()
    const once = await lowerwatch('refresh', overlay.mountPoint)
    expect(once).toMatchObject({ code: 0 })
    expect(modeOf(overlay.mountPoint)).toBe('off')
    const daemon = await daemonFor(overlay, '')
    await expectServed(overlay, 'a')
    expect(modeOf(overlay.mountPoint)).toBe('off')
    const { stdout } = await lowerwatch('status', '--socket', daemon.socket)
    expect(stdout).toContain('kernel: lower_changes is off: lower-changes = "notify" switches it on')
  })

  test('a mode that somebody has set stays, also at the end', async () => {
    const overlay = await overlayFor({ options: ['lower_changes=reval'] })
    const daemon = await daemonFor(overlay, 'lower-changes = "manual"')
    await expectRung(daemon, overlay, 'kernel')
    await daemon.stop()
    expect(modeOf(overlay.mountPoint)).toBe('reval')
  })

  test('a mode that somebody sets while the daemon runs stays, also at the end', async () => {
    const overlay = await overlayFor()
    const daemon = await daemonFor(overlay, 'lower-changes = "manual"')
    await setMode(overlay, 'reval')
    // The mount table changes, which lets the daemon look at the mode.
    await overlayFor()
    await expectRung(daemon, overlay, 'kernel')
    expect(said(daemon).at(-1)).toContain('the kernel follows (lower_changes=reval)')
    await daemon.stop()
    expect(modeOf(overlay.mountPoint)).toBe('reval')
  })

  test('what somebody switches off stays off until SIGHUP', async () => {
    const overlay = await overlayFor()
    const daemon = await daemonFor(overlay, 'lower-changes = "notify"')
    await setMode(overlay, 'off')
    await overlayFor()
    await expectRung(daemon, overlay, 'remount')
    await expectServed(overlay, 'a')
    expect(modeOf(overlay.mountPoint)).toBe('off')
    expect(said(daemon).at(-1)).toBe('warn: not lower-changes = "notify": somebody has switched it off')
    daemon.process.kill('SIGHUP')
    await expectRung(daemon, overlay, 'kernel')
    expect(modeOf(overlay.mountPoint)).toBe('notify')
  })

  test('an overlay that refuses is served as before, and the reason is said once', async () => {
    const overlay = await overlayFor({ options: ['index=on', 'nfs_export=on'] })
    const daemon = await daemonFor(overlay, 'lower-changes = "notify"')
    await overlayFor()
    await expectServed(overlay, 'a')
    expect(await daemon.overlay(overlay.mountPoint)).toMatchObject({ rung: 'remount' })
    expect(said(daemon)).toEqual([
      expect.stringMatching(/^warn: not lower-changes = "notify": fsconfig.*EINVAL/),
    ])
    const { rungReasons } = (await daemon.overlay(overlay.mountPoint)) as { rungReasons?: string[] }
    expect(rungReasons).toContain(
      'kernel: lower_changes is off in spite of lower-changes = "notify": the log says why',
    )
  })

  test('SIGHUP: back to off where it is not wanted any more, and where the overlay is not', async () => {
    const [one, two] = [await overlayFor(), await overlayFor()]
    const file = join(temporaryDirectory('config'), 'config.toml')
    cleanup.defer('configuration', () => rmSync(join(file, '..'), { recursive: true }))
    const daemon = { current: null as Daemon | null }
    const reload = async (policy: string, overlays: Overlay[], modes: string[]) => {
      const names = JSON.stringify(overlays.map(({ mountPoint }) => mountPoint))
      writeFileSync(file, `overlays = ${names}\n${policy}\n`)
      if (daemon.current === null) {
        daemon.current = await startDaemon([], { arguments: ['--config', file] })
        cleanup.defer('daemon', () => daemon.current!.stop())
      } else {
        daemon.current.process.kill('SIGHUP')
      }
      const seen = () => [one, two].map(({ mountPoint }) => modeOf(mountPoint)).join()
      await soon(() => (seen() === modes.join() ? null : seen()), policy)
    }
    await reload('lower-changes = "notify"', [one, two], ['notify', 'notify'])
    await reload('', [one, two], ['off', 'off'])
    await expectServed(one, 'by-remount')
    await reload(
      `lower-changes = "notify"\n[overlay."${two.mountPoint}"]\nlower-changes = "manual"`,
      [one, two],
      ['notify', 'manual'],
    )
    await reload('lower-changes = "manual"', [one], ['manual', 'off'])
  })

  test.each(['notify', 'manual'])('overlay on overlay, the inner one alone is "%s"', async (mode) => {
    const overlay = await overlayFor({ nested: true })
    const [inner = ''] = overlay.mountPoints
    const daemon = await daemonFor(overlay, `[overlay."${inner}"]\nlower-changes = "${mode}"`)
    expect(overlay.mountPoints.map(modeOf)).toEqual([mode, 'off'])
    for (const name of ['a', 'b', 'c']) await expectServed(overlay, name)
    await daemon.stop()
    expect(overlay.mountPoints.map(modeOf)).toEqual(['off', 'off'])
  })
})

describe.skipIf(whyPatched !== '')(`rung invalidate (skipped: ${whyPatched})`, () => {
  test('the kernel is told the directory that changed, and no other one', async () => {
    const others = ['', 'b', 'a/below']
    const overlay = await overlayFor({
      options: ['lower_changes=manual'],
      prepare: (o) => {
        for (const path of ['a', 'a/below', 'b']) mkdirSync(o.low(1, path))
      },
    })
    const lane = new native.Lane('test')
    const description = await findOverlay(await discoverOverlays(lane), fromText(overlay.mountPoint), lane)
    lane.close()
    const opened = await openOverlay(description)
    const nothing = () => undefined
    const events = {
      log: nothing,
      above: () => [],
      caughtUp: () => Promise.resolve(),
      served: nothing,
      swapping: nothing,
    }
    const controller = new OverlayController(opened, defaultPolicy, events, false)
    cleanup.defer('controller', async () => {
      await controller.stop()
      opened.close()
    })
    const names = ['a', ...others].map((directory) => join(directory, 'x'))
    for (const name of names) touch(overlay.at(name))
    for (const name of names) put(overlay.low(1, name), name)
    for (const name of names) expect(absent(overlay.at(name)), 'nobody was told yet').toBeNull()
    // Of all these changes the controller hears of one: what is right afterwards is what the kernel was told.
    const layer = opened.layers.find(({ role }) => role === 'lower')!
    controller.accept(layer, { layer: 0, directory: 'a', name: 'x', kind: Kind.create }, native.monotonicNs())
    controller.flush()
    await controller.settled()
    expect(controller.statistics.refreshes).toBe(1)
    expect(holds(overlay.at('a/x'), 'a/x')).toBeNull()
    for (const directory of others) {
      const name = join(directory, 'x')
      expect(absent(overlay.at(name)), 'not told').toBeNull()
    }
  })
})
