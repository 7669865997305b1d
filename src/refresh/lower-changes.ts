// SPDX-License-Identifier: MIT
import { existsSync, readFileSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fromText } from '../bytes.js'
import { LowerwatchError } from '../errors.js'
import { type Lane, native } from '../native.js'
import type { LowerChangesMode, OverlayDescription } from '../overlay/types.js'

const parameter = '/sys/module/overlay/parameters/lower_changes'
const mountAttrReadOnly = 0x1

/** Null where overlayfs has no such option. The mount table prints what is not the module's default. */
export function lowerChangesMode(description: OverlayDescription): LowerChangesMode | null {
  const value = description.options.find(([name]) => name === 'lower_changes')?.[1] ?? null
  return asMode(value) ?? asMode(moduleDefault())
}

/** The kernel keeps the overlay coherent by itself. */
export function kernelFollows(description: OverlayDescription): boolean {
  const mode = lowerChangesMode(description)
  return mode === 'notify' || mode === 'reval'
}

/** Mounts of this kernel have modes, which can be changed without the mount table telling. */
export function hasLowerChanges(): boolean {
  return existsSync(parameter)
}

function moduleDefault(): string | null {
  // Asked often, and an exception costs more than this.
  if (!hasLowerChanges()) return null
  try {
    return readFileSync(parameter, 'latin1').trim()
  } catch {
    return null
  }
}

function asMode(value: string | null): LowerChangesMode | null {
  const modes: readonly LowerChangesMode[] = ['off', 'manual', 'notify', 'reval']
  return modes.find((mode) => mode === value) ?? null
}

/**
 * Tries what the mount table promises, on a private overlay of two temporary directories: a name that was looked up
 * and did not exist, and then does. This is about the kernel and not about the file system of the layers: over one that
 * does not report all changes overlayfs looks at each use, and the mount table says `reval`
 * (kernel-patches/7.2/overlayfs, patches 15 and 16).
 *
 * @returns '' when the kernel follows; else what it did instead
 */
export async function proveFollowing(lane: Lane, mode: LowerChangesMode): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'lowerwatch-'))
  try {
    const lower = await Promise.all(['a', 'b'].map((name) => mkdtemp(join(directory, name))))
    const overlay = await native.freshOverlay(lane, {
      lower: lower.map(fromText),
      dataOnly: [],
      upper: null,
      options: [['lower_changes', mode]],
      mountAttributes: mountAttrReadOnly,
      readOnly: true,
    })
    try {
      if ((await native.statAt(lane, overlay, 'x')) !== null)
        throw new LowerwatchError('LAYER_UNREACHABLE', 'an empty overlay is not empty')
      await writeFile(join(lower[0]!, 'x'), '')
      const seen = (await native.statAt(lane, overlay, 'x')) !== null
      return seen ? '' : `with lower_changes=${mode} a new file of a lower layer did not appear`
    } finally {
      overlay.close()
    }
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
}
