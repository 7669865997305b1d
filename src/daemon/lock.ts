// SPDX-License-Identifier: MIT
import { ftruncateSync, readFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { fromText } from '../bytes.js'
import { LowerwatchError } from '../errors.js'
import { type Handle, native } from '../native.js'
import { runtimeDirectory } from './runtime.js'

/**
 * Takes the lock on an overlay, so that one daemon serves it and not two. The kernel frees it with the last
 * descriptor: it is free after `kill -9` too. The file stays, because a lock on an unlinked file locks nothing.
 * Rejects with ALREADY_RUNNING, which names the other daemon.
 *
 * @param device - `major:minor` of the superblock
 * @param name - The overlay, for the message
 */
export async function lockOverlay(device: string, name: string): Promise<Handle> {
  const path = join(runtimeDirectory(), `overlay-${device}.lock`)
  const lock = await takeLock(path)
  if (lock !== null) return lock
  throw new LowerwatchError(
    'ALREADY_RUNNING',
    `another lowerwatch serves the overlay at ${name}${ownerOf(path)}`,
    {
      hint: 'ask it with `lowerwatch status`, or stop it first',
    },
  )
}

/** The lock of a file with the own process id in it, or null when another process has it. */
export async function takeLock(path: string): Promise<Handle | null> {
  const lane = new native.Lane('lock')
  try {
    const lock = await native.lockFile(lane, fromText(path))
    if (lock === null) return null
    ftruncateSync(lock.fd)
    writeSync(lock.fd, `${process.pid}\n`, 0)
    return lock
  } finally {
    lane.close()
  }
}

/** ` (pid N)` for the process that has the lock, as far as it is known. */
export function ownerOf(path: string): string {
  try {
    const pid = readFileSync(path, 'latin1').trim()
    return /^[1-9][0-9]*$/.test(pid) ? ` (pid ${pid})` : ''
  } catch {
    return ''
  }
}
