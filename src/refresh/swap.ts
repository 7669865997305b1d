// SPDX-License-Identifier: MIT
import { readdir, readFile } from 'node:fs/promises'
import { display } from '../bytes.js'
import type { Handle } from '../native.js'
import { native } from '../native.js'
import { readMountTable } from '../overlay/discover.js'
import type { OpenOverlay, OverlayMount } from '../overlay/types.js'

/**
 * Rung "swap": a fresh overlay of the same layers is mounted beneath the old one (MOVE_MOUNT_BENEATH, Linux
 * 6.5), and the old one is detached. Every new open sees the fresh one; who holds the old one keeps it.
 *
 * @param fresh - Detached, see `mountAlike`
 */
export async function swap(overlay: OpenOverlay, fresh: Handle): Promise<void> {
  const { mountPoint } = overlay.description.mounts[0]!
  await native.attachMount(overlay.lane, fresh, mountPoint, { beneath: true })
  await native.detachMount(overlay.lane, mountPoint)
}

/**
 * Why a swap would lose or hide something; '' when it would not.
 *
 * @param table - Gives the mount table; who asks for many overlays need not have it read for each
 */
export async function refuseSwap(overlay: OpenOverlay, table = readMountTable): Promise<string> {
  const { description } = overlay
  if (description.upper !== null) return 'the overlay has an upper, which two overlays must not share'
  if (description.mounts.length !== 1) return 'the overlay is mounted in several places'
  const mount = description.mounts[0]!
  if (mount.root !== '/') return 'only a sub-directory of the overlay is mounted'
  if (mount.mountPoint === '/') return 'the overlay is the root of this mount namespace'
  const { mounts, overlays } = await table(overlay.lane)
  if (mounts.some((other) => other.parentId === mount.id)) return 'something is mounted on top of the overlay'
  const parent = mounts.find((other) => other.id === mount.parentId)
  const groups = [...(parent?.propagation ?? []), ...mount.propagation]
  if (groups.some((group) => !group.startsWith('shared:')))
    return 'the mount receives propagation from elsewhere'
  if (groups.length > 0 && (await hasPeers(groups, mount, parent?.id ?? -1))) {
    return 'the mount propagates to other mounts'
  }
  const dependent = overlays.find(
    (other) =>
      other.device !== description.device &&
      other.lower.some((path) => path === mount.mountPoint || path.startsWith(`${mount.mountPoint}/`)),
  )
  return dependent ? `the overlay is a layer of ${display(dependent.mounts[0]!.mountPoint)}` : ''
}

/** Is there another mount in one of these peer groups, in any mount namespace that can be seen? */
async function hasPeers(groups: string[], mount: OverlayMount, parentId: number): Promise<boolean> {
  const seen = new Set<string>()
  for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
    const table = await readFile(`/proc/${pid}/mountinfo`, 'latin1').catch(() => '')
    if (table === '' || seen.has(table)) continue
    seen.add(table)
    for (const line of table.split('\n')) {
      const [id, , , , , , ...rest] = line.split(' ')
      if (Number(id) === mount.id || Number(id) === parentId) continue
      const tags = rest.slice(0, rest.indexOf('-'))
      if (groups.some((group) => tags.includes(group) || tags.includes(group.replace('shared', 'master')))) {
        return true
      }
    }
  }
  return false
}
