// SPDX-License-Identifier: MIT

/** Brings one row to the moment before its change. */
import { Actor, unprivilegedReader } from '../fixture/actor.js'
import { Cleanup } from '../fixture/cleanup.js'
import { inUserNamespace } from '../fixture/environment.js'
import type { Verdict } from '../fixture/eventually.js'
import { type LowerFs, whyUnavailable } from '../fixture/lowers.js'
import { makeOverlay, type Overlay } from '../fixture/overlay.js'
import type { Case, Scene } from './types.js'

/** Why this machine or this user cannot run the row; '' when it can. */
export async function whyNot(row: Case, lowerFs: LowerFs): Promise<string> {
  if (row.needsUnprivileged === true) {
    const reader = await unprivilegedReader()
    if (reader === null) return 'this user namespace has one user only'
    await reader.stop()
  }
  if (row.needsPrivileges === true && inUserNamespace) return 'not in a user namespace'
  return whyUnavailable(lowerFs)
}

/** The row's overlay, filled and mounted. */
export async function mountCase(row: Case, lowerFs: LowerFs): Promise<Overlay> {
  const changer = new Actor()
  try {
    const { lowers, upper, options = [], nested = false, twin = false } = row
    const prepare = (overlay: Overlay) => row.layers(overlay, changer)
    return await makeOverlay({ lowers, upper, lowerFs, options, nested, twin, prepare })
  } finally {
    await changer.stop()
  }
}

/** Starts the row's processes, looks at what is to become stale, and takes hold of it. */
export async function openScene(
  row: Case,
  overlay: Overlay,
): Promise<{ scene: Scene; close: () => Promise<void> }> {
  const cleanup = new Cleanup()
  const start = <T extends Actor | null>(actor: T): T => {
    if (actor !== null) cleanup.defer('process', () => actor.stop())
    return actor
  }
  try {
    const changer = start(new Actor())
    const reader = row.needsUnprivileged === true ? start(await unprivilegedReader()) : null
    const holder = row.holder === undefined ? null : start(new Actor())
    const scene: Scene = { overlay, holder, held: -1, reader, changer }
    await row.warm(scene)
    await takeHold(row, scene)
    return { scene, close: () => cleanup.run() }
  } catch (error) {
    await cleanup.run()
    throw error
  }
}

async function takeHold(row: Case, scene: Scene): Promise<void> {
  if (row.holder === undefined || scene.holder === null) return
  const path = scene.overlay.at(row.holder.path)
  if (row.holder.keeps === 'cwd') return scene.holder.chdir(path)
  if (row.holder.keeps === 'map') return scene.holder.map(path)
  scene.held = await scene.holder.open(path)
  if (row.holder.keeps === 'directory') await scene.holder.names(scene.held)
}

/** The row's check on a fresh mount of the same layers, which is what decides whether the check itself is right. */
export async function checkFresh(row: Case, scene: Scene): Promise<Verdict> {
  const { overlay, unmount } = scene.overlay.fresh()
  try {
    return await row.check({ ...scene, overlay, holder: null, held: -1 })
  } finally {
    unmount()
  }
}
