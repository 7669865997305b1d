// SPDX-License-Identifier: MIT

import { open, readFile, rm } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import { isCode } from './workspace.js'

/**
 * Runs `work` while no other process works on the same entry. The lock is a file with the owner's process id; one whose
 * owner is gone is taken over.
 *
 * @param waiting is called once when somebody else has it
 */
export async function withLock<T>(path: string, waiting: () => void, work: () => Promise<T>): Promise<T> {
  let told = false
  for (;;) {
    try {
      const file = await open(path, 'wx')
      await file.writeFile(String(process.pid))
      await file.close()
      break
    } catch (error) {
      if (!isCode(error, 'EEXIST')) throw error
      if (await abandoned(path)) {
        await rm(path, { force: true })
        continue
      }
      if (!told) waiting()
      told = true
      // Another process' work of minutes; there is nothing to be told by.
      await delay(500)
    }
  }
  try {
    return await work()
  } finally {
    await rm(path, { force: true })
  }
}

async function abandoned(path: string): Promise<boolean> {
  try {
    const pid = Number(await readFile(path, 'utf8'))
    if (!Number.isInteger(pid) || pid <= 0) return false
    process.kill(pid, 0)
    return false
  } catch (error) {
    return isCode(error, 'ESRCH')
  }
}
