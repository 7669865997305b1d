// SPDX-License-Identifier: MIT

import { access, readFile } from 'node:fs/promises'
import { isCode } from './workspace.js'

/** What can be seen of a series in a running kernel, without doing anything to it. */
export type Presence = 'present' | 'absent' | `unknown (${string})`

const tries = '`lowerwatch probe` tries it'

/** A function that the last patch of the kernfs series that changes code brings: not static, so it has its name in a kernel. */
export const kernfsFunction = 'kernfs_fsnotify_move'

/** And one that every kernfs has. */
const stockFunction = 'kernfs_notify'

/** The series adds a parameter to the overlay module; without the module loaded it cannot be seen. */
export async function runningOverlayfs(root = ''): Promise<Presence> {
  const module = `${root}/sys/module/overlay`
  if (!(await exists(module))) return `unknown (overlay is not loaded; ${tries})`
  return (await exists(`${module}/parameters/lower_changes`)) ? 'present' : 'absent'
}

/**
 * The kernfs series adds nothing that can be read, only functions. /proc/kallsyms names them (CONFIG_KALLSYMS), to anybody:
 * kptr_restrict hides addresses. Whether the kernel tells of what it does is an experiment, which changes something: probe.
 */
export async function runningKernfs(root = ''): Promise<Presence> {
  const names = await symbols(`${root}/proc/kallsyms`)
  const has = (name: string) => new RegExp(` ${name}$`, 'm').test(names)
  if (has(kernfsFunction)) return 'present'
  return has(stockFunction) ? 'absent' : `unknown (/proc/kallsyms does not have kernfs; ${tries})`
}

async function symbols(file: string): Promise<string> {
  try {
    return await readFile(file, 'latin1')
  } catch (error) {
    if (!isCode(error, 'ENOENT', 'EACCES', 'EPERM')) throw error
    return ''
  }
}

async function exists(path: string): Promise<boolean> {
  try {
    await access(path)
    return true
  } catch (error) {
    if (!isCode(error, 'ENOENT')) throw error
    return false
  }
}
