// SPDX-License-Identifier: MIT

import { constants } from 'node:fs'
import { access } from 'node:fs/promises'
import type { Options } from 'execa'
import { LowerwatchError } from '../errors.js'
import { isCode } from './workspace.js'

/** Debian package of each tool that a kernel build or a boot runs. */
const packages: Record<string, string> = {
  'apt-get': 'apt',
  'apt-cache': 'apt',
  bc: 'bc',
  bison: 'bison',
  cp: 'coreutils',
  depmod: 'kmod',
  'dpkg-deb': 'dpkg',
  flex: 'flex',
  gcc: 'gcc',
  gzip: 'gzip',
  make: 'make',
  modprobe: 'kmod',
  rmmod: 'kmod',
  strip: 'binutils',
  setpriv: 'util-linux',
  tar: 'tar',
  xz: 'xz-utils',
  zstd: 'zstd',
}

/** @throws LowerwatchError MISSING_TOOL that names every tool that is not there, and what to install. */
export async function requireTools(...names: string[]): Promise<void> {
  const missing: string[] = []
  for (const name of names) if (!(await onPath(name))) missing.push(name)
  if (missing.length === 0) return
  const install = [...new Set(missing.map((name) => packages[name] ?? name))].join(' ')
  throw new LowerwatchError('MISSING_TOOL', `not installed: ${missing.join(', ')}`, {
    hint: `apt-get install ${install}`,
  })
}

/** Whether a program is there, in the directories of root too. */
export async function onPath(name: string): Promise<boolean> {
  // depmod and friends are in sbin, which is not on everybody's path.
  const directories = [...(process.env.PATH ?? '').split(':'), '/usr/sbin', '/sbin']
  for (const directory of directories) {
    try {
      await access(`${directory}/${name}`, constants.X_OK)
      return true
    } catch (error) {
      if (!isCode(error, 'ENOENT', 'ENOTDIR', 'EACCES')) throw error
    }
  }
  return false
}

/** @throws LowerwatchError NOT_PERMITTED unless the process is root. */
export function requireRoot(what: string): void {
  if (process.getuid?.() !== 0)
    throw new LowerwatchError('NOT_PERMITTED', `${what} needs root`, { hint: 'run it with sudo' })
}

/**
 * Runs a program to its end and gives its standard output. No shell is involved; execa is loaded when it is first used.
 *
 * @throws LowerwatchError KERNEL with the last line the program said
 */
export async function output(file: string, args: string[], options: Options = {}): Promise<string> {
  const { execa } = await import('execa')
  const result = await execa(file, args, { ...options, reject: false, stdin: 'ignore' })
  if (!result.failed) return String(result.stdout ?? '')
  const said = String(result.stderr || result.stdout || result.shortMessage)
  throw new LowerwatchError('KERNEL', `${file} ${args[0] ?? ''} failed`, {
    hint: said.trim().split('\n').at(-1) ?? '',
    cause: result,
  })
}
