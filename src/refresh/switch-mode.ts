// SPDX-License-Identifier: MIT
import { isSyscallError } from '../errors.js'
import { native } from '../native.js'
import { readMountTable } from '../overlay/discover.js'
import type { LowerChangesMode, OpenOverlay, OverlayDescription } from '../overlay/types.js'
import { lowerChangesMode } from './lower-changes.js'
import type { RefreshPolicy } from './policy.js'

/**
 * Policy `lower-changes`: switches an overlay that is `off` to that mode, and says so in `overlay`. What is in another
 * mode stays. The mode can become another one than asked for: `notify` is `reval` where a lower file system does not
 * report all changes.
 *
 * @returns why it stays `off`; '' when it does not
 * @throws SyscallError if the mount table cannot be read
 */
export async function switchMode(
  overlay: OpenOverlay,
  wanted: RefreshPolicy['lowerChanges'],
): Promise<string> {
  if (wanted === 'leave') return ''
  const mode = lowerChangesMode(overlay.description)
  if (mode === null) return 'this overlayfs has no lower_changes option'
  if (mode !== 'off') return ''
  try {
    await setMode(overlay, wanted)
  } catch (error) {
    if (!isSyscallError(error)) throw error
    return error.message
  }
  overlay.switchedTo = wanted
  const now = await describe(overlay)
  if (now === undefined) return ''
  overlay.description.options = now.options
  overlay.switchedTo = lowerChangesMode(now) ?? wanted
  return ''
}

/**
 * Switches what {@link switchMode} has switched to `off` again, unless somebody has set another mode since.
 *
 * @returns whether it did
 * @throws SyscallError
 */
export async function switchBack(overlay: OpenOverlay): Promise<boolean> {
  if (overlay.switchedTo === undefined) return false
  const now = await describe(overlay)
  // Not in the mount table: it can be in use elsewhere.
  if (now !== undefined && lowerChangesMode(now) !== overlay.switchedTo) return false
  await setMode(overlay, 'off')
  return true
}

/** By fspick(2) and fsconfig(2): overlayfs ignores the options of a remount by mount(2), from 6.5 on. */
async function setMode({ lane, root, description }: OpenOverlay, mode: LowerChangesMode): Promise<void> {
  const readOnly = description.upper === null
  await native.reconfigure(lane, [{ overlay: root, readOnly, options: [['lower_changes', mode]] }])
}

async function describe({ lane, description }: OpenOverlay): Promise<OverlayDescription | undefined> {
  const { overlays } = await readMountTable(lane)
  return overlays.find(({ device }) => device === description.device)
}
