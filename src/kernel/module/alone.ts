// SPDX-License-Identifier: MIT

import { rm } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import { fromText } from '../../bytes.js'
import { native } from '../../native.js'
import type { Target } from './target.js'

/** Runs `work` while nobody else changes the modules of that machine: a hook may come meanwhile. */
export async function alone<T>(
  target: Target,
  note: (line: string) => void,
  work: () => Promise<T>,
): Promise<T> {
  const path = `${await target.path('/lib/modules')}/.lowerwatch.lock`
  const lane = new native.Lane('install', { bulk: true })
  try {
    let lock = await native.lockFile(lane, fromText(path))
    if (lock === null) note('another process installs or removes a module, waiting')
    // flock(2) without LOCK_NB could not be told to stop.
    for (; lock === null; lock = await native.lockFile(lane, fromText(path))) await delay(500)
    try {
      return await work()
    } finally {
      await rm(path, { force: true })
      lock.close()
    }
  } finally {
    lane.close()
  }
}
