// SPDX-License-Identifier: MIT
import { setTimeout as after } from 'node:timers/promises'
import { isSyscallError } from '../errors.js'
import { experiments } from './native.js'

/** How long whoever was told of a new device (udev) may look at it. */
const busyMs = 1_000

/** Removes /dev/loopN; LOOP_CTL_REMOVE answers EBUSY as long as anybody has it open. */
export async function removeLoop(number: number): Promise<void> {
  const deadline = performance.now() + busyMs
  for (;;) {
    try {
      experiments.loopDevice(number, false)
      return
    } catch (error) {
      if (!isSyscallError(error, 'EBUSY') || performance.now() > deadline) throw error
    }
    await after(20)
  }
}
