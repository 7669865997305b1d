// SPDX-License-Identifier: MIT
import { chmodSync, lstatSync, mkdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { LowerwatchError } from '../errors.js'

/**
 * Where the control socket and the locks are: /run/lowerwatch for root, else in $XDG_RUNTIME_DIR. Never in /tmp,
 * where another user could make it first. Created 0700 if it is missing.
 * @throws LowerwatchError USAGE when there is no such place
 */
export function runtimeDirectory(): string {
  let refused = 'XDG_RUNTIME_DIR is not set'
  for (const parent of parents()) {
    const directory = join(parent, 'lowerwatch')
    const reason = makePrivateDirectory(directory)
    if (reason === '') return directory
    refused = `${directory} ${reason}`
  }
  throw new LowerwatchError('USAGE', `no directory for the control socket, ${refused}`, {
    hint: 'set XDG_RUNTIME_DIR to a directory of your own, or give --socket',
  })
}

/** Root of a user namespace may not write to /run, so that the second place counts for it too. */
function parents(): string[] {
  const own = process.env.XDG_RUNTIME_DIR
  return [...(process.getuid?.() === 0 ? ['/run'] : []), ...(own?.startsWith('/') ? [own] : [])]
}

/** The directory that `socket` is in, made 0700 if it is missing. An existing one stays as it is. */
export function makeSocketDirectory(socket: string): void {
  mkdirSync(dirname(socket), { recursive: true, mode: 0o700 })
}

/** Why `directory` is not one that only this user can write to; '' when it is. */
function makePrivateDirectory(directory: string): string {
  try {
    mkdirSync(directory, { mode: 0o700 })
    // mkdir(2) is subject to the umask, which may take even the owner's bits.
    chmodSync(directory, 0o700)
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code
    if (code !== 'EEXIST') return `cannot be made (${code})`
  }
  const { uid, mode } = lstatSync(directory)
  return uid === process.getuid?.() && (mode & 0o022) === 0 ? '' : 'is not private to this user'
}
