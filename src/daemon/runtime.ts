// SPDX-License-Identifier: MIT
import { chmodSync, mkdirSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { LowerwatchError } from '../errors.js'

/**
 * Where the control socket and the locks are: /run/lowerwatch for root, else in $XDG_RUNTIME_DIR. Never in /tmp,
 * where another user could make it first. Created 0700 if it is missing.
 * @throws LowerwatchError USAGE when there is no such place
 */
export function runtimeDirectory(): string {
  // Root of a user namespace may not write to /run.
  for (const parent of process.getuid?.() === 0 ? ['/run', xdgDirectory()] : [xdgDirectory()]) {
    if (parent === null) continue
    const directory = join(parent, 'lowerwatch')
    try {
      makePrivateDirectory(directory)
      return directory
    } catch (error) {
      if (error instanceof LowerwatchError) throw error
      if (!['EACCES', 'EROFS', 'ENOENT', 'EPERM'].includes(String((error as NodeJS.ErrnoException).code)))
        throw error
    }
  }
  throw new LowerwatchError('USAGE', 'no directory for the control socket', {
    hint: 'set XDG_RUNTIME_DIR to a directory of your own, or give --socket',
  })
}

function xdgDirectory(): string | null {
  const directory = process.env.XDG_RUNTIME_DIR
  return directory?.startsWith('/') ? directory : null
}

/** The directory that `socket` is in, made 0700 if it is missing. An existing one stays as it is. */
export function makeSocketDirectory(socket: string): void {
  mkdirSync(dirname(socket), { recursive: true, mode: 0o700 })
}

function makePrivateDirectory(directory: string): void {
  try {
    mkdirSync(directory, { mode: 0o700 })
    // mkdir(2) is subject to the umask, which may take even the owner's bits.
    chmodSync(directory, 0o700)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
  }
  const { uid, mode } = statSync(directory)
  if (uid !== process.getuid?.() || (mode & 0o022) !== 0) {
    throw new LowerwatchError('NOT_PERMITTED', `${directory} is not private to this user`, {
      hint: 'remove it, or make it yours with mode 0700',
    })
  }
}
