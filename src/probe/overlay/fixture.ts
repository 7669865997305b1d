// SPDX-License-Identifier: MIT
import { mkdirSync } from 'node:fs'
import { fromText } from '../../bytes.js'
import { isSyscallError } from '../../errors.js'
import { type Handle, native } from '../../native.js'
import type { LowerChangesMode } from '../../overlay/types.js'
import { childCgroup } from '../cgroup.js'
import { inFirstUserNamespace } from '../first-namespace.js'
import { type Context, Skip } from '../types.js'

/** A throw-away overlay. */
export interface ProbeOverlay {
  lower: string
  merged: string
  /** '' when it has none. */
  upper: string
  handle: Handle
}

export interface OverlayWish {
  lower?: 'tmpfs' | 'cgroup2'
  /** More lower layers below the first, which is what changes. */
  layers?: number
  upper?: boolean
  mode?: LowerChangesMode
  /** The mount is read-only, whatever the overlay is. */
  readOnlyMount?: boolean
  /** Filled before it is mounted. */
  prepare?: (lower: string, upper: string) => void
}

const readOnlyAttribute = 1

export async function makeOverlay(context: Context, wish: OverlayWish = {}): Promise<ProbeOverlay> {
  const base = `${context.base}/${context.name('overlay')}`
  const paths = ['lower', 'upper', 'work', 'merged'].map((part) => `${base}/${part}`)
  for (const path of paths) mkdirSync(path, { recursive: true })
  const [tmpfs, upper, work, merged] = paths as [string, string, string, string]
  const lower = wish.lower === 'cgroup2' ? childCgroup(context) : tmpfs
  const more = Array.from({ length: wish.layers ?? 0 }, (_, index) => `${base}/more${index}`)
  for (const path of more) mkdirSync(path)
  wish.prepare?.(lower, upper)
  const writable = wish.upper !== false
  const mount = await native
    .freshOverlay(context.lane, {
      lower: [lower, ...more].map(fromText),
      dataOnly: [],
      upper: writable ? { upper: fromText(upper), work: fromText(work) } : null,
      options: [
        ...(inFirstUserNamespace() ? [] : ([['userxattr', null]] as [string, null][])),
        ...(wish.mode === undefined ? [] : ([['lower_changes', wish.mode]] as [string, string][])),
      ],
      mountAttributes: writable && wish.readOnlyMount !== true ? 0 : readOnlyAttribute,
      readOnly: !writable,
    })
    .catch((error) => {
      if (isSyscallError(error)) throw new Skip(`no overlay can be mounted here: ${error.code}`)
      throw error
    })
  try {
    await native.attachMount(context.lane, mount, fromText(merged), { beneath: false })
  } finally {
    mount.close()
  }
  context.defer(() => native.detachMount(context.lane, fromText(merged)))
  const handle = await native.openTree(context.lane, fromText(merged), { clone: false })
  context.defer(() => handle.close())
  return { lower, merged, upper: writable ? upper : '', handle }
}

/** Remounts without a change, as the rung `remount` does, and gives microseconds. */
export async function remount(context: Context, overlay: ProbeOverlay): Promise<number> {
  const spentNs = await native.reconfigure(context.lane, [
    { overlay: overlay.handle, readOnly: overlay.upper === '' },
  ])
  return Math.round(spentNs / 1_000)
}
