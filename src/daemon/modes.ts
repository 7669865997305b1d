// SPDX-License-Identifier: MIT
import { display } from '../bytes.js'
import type { OpenOverlay } from '../overlay/types.js'
import { kernelFollows, lowerChangesMode, proveFollowing } from '../refresh/lower-changes.js'
import type { RefreshPolicy } from '../refresh/policy.js'
import { switchBack, switchMode } from '../refresh/switch-mode.js'
import type { Logger } from './log.js'
import type { Nesting } from './nesting.js'

/**
 * What is done about the mode of an overlay, `lower_changes`, before the rung is decided. Policy `lower-changes`: those that
 * are `off` are switched to a mode while this daemon serves them.
 */
export class Modes {
  /** Devices that were switched on here, and then off by somebody else: who is not contradicted. */
  private off = new Set<string>()

  constructor(
    private readonly nesting: Nesting,
    private readonly log: Logger,
  ) {}

  /** Before anything is watched. Rejects with SyscallError. */
  async switch(overlay: OpenOverlay, { lowerChanges }: RefreshPolicy): Promise<void> {
    const { device } = overlay.description
    const isLeft = this.off.has(device) && lowerChangesMode(overlay.description) === 'off'
    const reason = isLeft ? 'somebody has switched it off' : await switchMode(overlay, lowerChanges)
    if (reason !== '') this.log.warn(fieldsOf(overlay), `not lower-changes = "${lowerChanges}": ${reason}`)
    if (overlay.switchedTo === undefined) return
    this.log.info(fieldsOf(overlay), `lower_changes was off, switched to ${overlay.switchedTo}`)
    this.nesting.tellSwitched(device)
  }

  /** Rung "kernel": tried before it is trusted. */
  async follows(overlay: OpenOverlay): Promise<boolean> {
    const mode = lowerChangesMode(overlay.description)
    if (mode === null || !kernelFollows(overlay.description)) return false
    const reason = await proveFollowing(overlay.lane, mode).catch((error) => `not tried: ${String(error)}`)
    if (reason !== '') this.log.warn(fieldsOf(overlay), `the kernel is not trusted to follow: ${reason}`)
    else this.log.info(fieldsOf(overlay), `the kernel follows (lower_changes=${mode}), nothing is watched`)
    return reason === ''
  }

  /** Mounts are left as they were found. */
  async switchBack(overlay: OpenOverlay): Promise<void> {
    try {
      if (await switchBack(overlay)) this.log.info(fieldsOf(overlay), 'lower_changes switched back to off')
    } catch (error) {
      this.log.warn(fieldsOf(overlay), `lower_changes cannot be switched back to off: ${String(error)}`)
    }
  }

  changedByOthers({ description, switchedTo }: OpenOverlay): void {
    if (switchedTo !== undefined) this.off.add(description.device)
  }

  keepOnly(present: ReadonlyMap<string, unknown>): void {
    for (const device of this.off) if (!present.has(device)) this.off.delete(device)
  }

  /** What somebody switched off may be switched on again: these devices, once they are taken again. */
  forget(): ReadonlySet<string> {
    const { off } = this
    this.off = new Set()
    return off
  }
}

function fieldsOf({ description }: OpenOverlay): { overlay: string } {
  return { overlay: display(description.mounts[0]!.mountPoint) }
}
