// SPDX-License-Identifier: MIT

import { access } from 'node:fs/promises'
import { LowerwatchError } from '../../errors.js'
import { output } from '../tools.js'
import { isCode } from '../workspace.js'
import { type ModuleUse, moduleUse } from './users.js'

export type Loaded = 'stock' | 'patched' | 'none'

/** Which overlayfs is loaded as a module. One that is built in has no initstate; the series adds a parameter. */
export async function loadedModule(): Promise<Loaded> {
  if (!(await exists('/sys/module/overlay/initstate'))) return 'none'
  return (await exists('/sys/module/overlay/parameters/lower_changes')) ? 'patched' : 'stock'
}

/** What became of the module in the running kernel. */
export interface Exchange {
  loaded: Loaded
  /** Who holds the one that was there, when it could not be exchanged. */
  use: ModuleUse | null
}

/**
 * Puts the installed module in the place of the loaded one, if nobody uses that: delete_module(2) without O_TRUNC refuses
 * one that is in use, so that a mount that comes meanwhile is safe. One that is not loaded stays so: the next mount loads
 * the one that is installed.
 *
 * @throws LowerwatchError KERNEL when the kernel does not take the new one; then none is loaded
 */
export async function exchangeModule(wanted: 'stock' | 'patched', path: string | null): Promise<Exchange> {
  const before = await loadedModule()
  if (before === 'none') return { loaded: before, use: null }
  try {
    await output('rmmod', ['overlay'])
  } catch (error) {
    if ((await loadedModule()) !== 'none') return { loaded: before, use: await moduleUse() }
    // Somebody else has unloaded it.
    if (!(error instanceof LowerwatchError)) throw error
  }
  if (path === null) return { loaded: 'none', use: null }
  await output('modprobe', ['overlay'])
  const loaded = await loadedModule()
  if (loaded !== wanted)
    throw new LowerwatchError('KERNEL', `modprobe loaded the ${loaded} overlayfs, not the ${wanted} one`, {
      hint: 'see depmod.d(5) for what comes first',
    })
  return { loaded, use: null }
}

async function exists(path: string): Promise<boolean> {
  try {
    await access(path)
    return true
  } catch (error) {
    if (isCode(error, 'ENOENT')) return false
    throw error
  }
}
