// SPDX-License-Identifier: MIT
import { fstatSync, ftruncateSync, readFileSync, rmSync, statSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { fromText } from '../bytes.js'
import { LowerwatchError } from '../errors.js'
import { type Handle, native } from '../native.js'
import { runtimeDirectory } from './runtime.js'

/** A file that no other process has locked. Closing it removes the file first. */
export type Lock = Handle

/**
 * Takes the lock on an overlay, so that one daemon serves it and not two. The kernel frees it with the last
 * descriptor: it is free after `kill -9` too. Rejects with ALREADY_RUNNING, which names the other daemon.
 *
 * @param device - `major:minor` of the superblock
 * @param name - The overlay, for the message
 */
export async function lockOverlay(device: string, name: string): Promise<Lock> {
  const path = join(runtimeDirectory(), `overlay-${device}.lock`)
  const lock = await takeLock(path)
  if (lock !== null) return lock
  throw new LowerwatchError(
    'ALREADY_RUNNING',
    `another lowerwatch serves the overlay at ${name}${ownerOf(path)}`,
    { hint: 'ask it with `lowerwatch status`, or stop it first' },
  )
}

/** The lock of a file with the own process id in it, or null when another process has it. */
export async function takeLock(path: string): Promise<Lock | null> {
  const lane = new native.Lane('lock')
  try {
    for (;;) {
      const handle = await native.lockFile(lane, fromText(path))
      if (handle === null) return null
      if (isAt(handle, path)) return held(handle, path)
      // Its owner removed it between our open and our lock. Who comes next would lock another file.
      handle.close()
    }
  } finally {
    lane.close()
  }
}

function isAt(handle: Handle, path: string): boolean {
  const there = statSync(path, { throwIfNoEntry: false, bigint: true })
  const own = fstatSync(handle.fd, { bigint: true })
  return there !== undefined && there.ino === own.ino && there.dev === own.dev
}

function held(handle: Handle, path: string): Lock {
  ftruncateSync(handle.fd)
  writeSync(handle.fd, `${process.pid}\n`, 0)
  return {
    get fd() {
      return handle.fd
    },
    close() {
      if (handle.fd < 0) return
      // While it is still locked: after that it may be another's.
      rmSync(path, { force: true })
      handle.close()
    },
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
