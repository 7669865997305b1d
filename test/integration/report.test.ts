// SPDX-License-Identifier: MIT

/** What the status costs. */
import { expect, onTestFinished, test, vi } from 'vitest'
import { createLogger } from '../../src/daemon/log.js'
import { OverlayManager } from '../../src/daemon/manager.js'
import { report } from '../../src/daemon/report.js'
import { native } from '../../src/native.js'
import { defaultPolicy } from '../../src/refresh/policy.js'
import { makeOverlay } from './fixture/overlay.js'

test('the mount table is read once, however many overlays could be swapped', async () => {
  const points = new Set<string>()
  for (let i = 0; i < 3; i++) {
    const overlay = await makeOverlay({ lowers: 2, upper: false, lowerFs: 'tmpfs' })
    onTestFinished(() => overlay.unmount())
    points.add(overlay.mountPoint)
  }
  const manager = new OverlayManager(
    {
      wanted: ({ mounts }) => mounts.some(({ mountPoint }) => points.has(mountPoint)),
      overlay: () => ({ policy: defaultPolicy, layers: {} }),
      reconcileIntervalMs: 60_000,
    },
    createLogger('silent'),
  )
  onTestFinished(() => manager.close())
  await manager.sync(true)
  const reads = vi.spyOn(native, 'listMounts')
  onTestFinished(() => reads.mockRestore())
  const { overlays } = await report(manager, { source: 'poll', reason: '' })
  expect(overlays.map(({ rungReasons }) => rungReasons.some((reason) => reason.startsWith('swap:')))).toEqual(
    [false, false, false],
  )
  expect(reads).toHaveBeenCalledTimes(1)
})
