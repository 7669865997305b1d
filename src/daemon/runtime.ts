// SPDX-License-Identifier: MIT
import { chmodSync, existsSync, lstatSync, mkdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { LowerwatchError } from '../errors.js'

/**
 * Where the control socket and the locks are: $RUNTIME_DIRECTORY, or /run/lowerwatch
 * for root, or in $XDG_RUNTIME_DIR. Never in /tmp,
 * where another user could make it first. Created 0700 if it is missing.
 * @throws LowerwatchError USAGE when there is no such place
 */
export function runtimeDirectory(): string {
  let refused = 'XDG_RUNTIME_DIR is not set'
  for (const directory of candidates()) {
    const reason = makePrivateDirectory(directory)
    if (reason === '') return directory
    refused = `${directory} ${reason}`
  }
  throw new LowerwatchError('USAGE', `no directory for the control socket, ${refused}`, {
    hint: 'set XDG_RUNTIME_DIR to a directory of your own, or give --socket',
  })
}

function candidates(): string[] {
  // What systemd.exec(5) RuntimeDirectory= made for this service.
  const given = process.env.RUNTIME_DIRECTORY?.split(':')[0]
  if (given?.startsWith('/')) return [given]
  const own = process.env.XDG_RUNTIME_DIR
  // Root of a user namespace may not write to /run, so that the second place counts for it too.
  const parents = [...(process.getuid?.() === 0 ? ['/run'] : []), ...(own?.startsWith('/') ? [own] : [])]
  return parents.map((parent) => join(parent, 'lowerwatch'))
}

/** The directory that `socket` is in, made 0700 if it is missing. An existing one stays as it is. */
export function makeSocketDirectory(socket: string): void {
  makeDirectories(dirname(socket))
}

/** Not mkdirSync with `recursive`: in Node 20 it never ends where mkdir(2) says ENOENT below an existing directory (/proc). */
function makeDirectories(directory: string): void {
  if (existsSync(directory)) return
  makeDirectories(dirname(directory))
  try {
    mkdirSync(directory, { mode: 0o700 })
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
  }
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
