// SPDX-License-Identifier: MIT

import { rm } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import { fromText } from '../bytes.js'
import { native } from '../native.js'

/**
 * Runs `work` while no other process works on the same thing. The lock is flock(2) on a file, which the kernel lets go of
 * when the process ends, however it ends.
 *
 * @param waiting is called once when somebody else has it
 * @param abort ends the waiting, with its reason
 * @throws SysError when the file cannot be made, or is a link
 */
export async function withLock<T>(
  path: string,
  waiting: () => void,
  work: () => Promise<T>,
  abort?: AbortSignal,
): Promise<T> {
  const lane = new native.Lane('lock', { bulk: true })
  try {
    let lock = await native.lockFile(lane, fromText(path))
    if (lock === null) waiting()
    // Another process' work of minutes. flock(2) without LOCK_NB could not be told to stop.
    for (; lock === null; lock = await native.lockFile(lane, fromText(path)))
      await delay(500, undefined, abort ? { signal: abort } : {})
    try {
      return await work()
    } finally {
      // One that stays, on a file system that turned read-only, locks nobody out.
      await rm(path, { force: true }).catch(() => {})
      lock.close()
    }
  } finally {
    lane.close()
  }
}
