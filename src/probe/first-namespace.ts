// SPDX-License-Identifier: MIT
import { readFileSync } from 'node:fs'

/** Whether this is the user namespace that the machine started with. */
export function inFirstUserNamespace(): boolean {
  return readFileSync('/proc/self/uid_map', 'latin1').trim().split(/\s+/).join(' ') === '0 0 4294967295'
}
