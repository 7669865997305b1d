// SPDX-License-Identifier: MIT

import { withLock } from '../lock.js'
import type { Target } from './target.js'

/** Runs `work` while nobody else changes the modules of that machine: a hook may come meanwhile. */
export async function alone<T>(
  target: Target,
  note: (line: string) => void,
  work: () => Promise<T>,
): Promise<T> {
  return withLock(
    `${await target.path('/lib/modules')}/.lowerwatch.lock`,
    () => note('another process installs or removes a module, waiting'),
    work,
  )
}
