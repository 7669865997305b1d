// SPDX-License-Identifier: MIT

import { readdir, readFile } from 'node:fs/promises'
import { type ByteString, display } from '../../bytes.js'
import { findHolders } from '../../coherence/holders.js'
import { LowerwatchError } from '../../errors.js'
import { type Lane, native, type ProcessFacts } from '../../native.js'
import { discoverOverlays } from '../../overlay/discover.js'
import { openOverlay } from '../../overlay/open.js'
import { isCode } from '../workspace.js'

/** A mount of overlayfs, in one mount namespace. */
export interface OverlayUse {
  mountPoint: string
  /** For example `mnt:[4026531841]`; null for the own. */
  namespace: string | null
  /** Who has something of it open; of another namespace: who lives there. */
  processes: { pid: number; command: string }[]
}

export interface ModuleUse {
  /** Of the module: each superblock and each of its type that is being mounted counts. */
  references: number
  mounts: OverlayUse[]
  /** Other modules that need it. */
  modules: string[]
}

/** Overlays, with their processes, in all mount namespaces that a process lives in; and what else uses the module. */
export async function moduleUse(): Promise<ModuleUse> {
  const lane = new native.Lane('users', { bulk: true })
  try {
    const processes = await survey(lane)
    return {
      references: Number((await textOf('/sys/module/overlay/refcnt')) ?? 0),
      mounts: [...(await ownMounts(lane)), ...(await foreignMounts(processes))],
      modules: await namesIn('/sys/module/overlay/holders'),
    }
  } finally {
    lane.close()
  }
}

async function survey(lane: Lane): Promise<ProcessFacts[]> {
  const pids = await native.processIds(lane)
  const found: ProcessFacts[] = []
  for (let at = 0; at < pids.length; at += 64)
    found.push(...(await native.processes(lane, pids.slice(at, at + 64), { maps: false })))
  return found
}

async function ownMounts(lane: Lane): Promise<OverlayUse[]> {
  const uses: OverlayUse[] = []
  for (const description of await discoverOverlays(lane)) {
    const processes = new Map<number, string>()
    try {
      const overlay = await openOverlay(description)
      try {
        for (const { pid, command } of (await findHolders(overlay)).holders)
          if (pid !== process.pid) processes.set(pid, command)
      } finally {
        overlay.close()
      }
    } catch (error) {
      // Its layers are out of reach: then only the mount is known.
      if (!(error instanceof LowerwatchError)) throw error
    }
    for (const { mountPoint } of description.mounts)
      uses.push({
        mountPoint: display(mountPoint),
        namespace: null,
        processes: [...processes].map(([pid, command]) => ({ pid, command })),
      })
  }
  return uses
}

async function foreignMounts(processes: ProcessFacts[]): Promise<OverlayUse[]> {
  const own = processes.find(({ pid }) => pid === process.pid)?.mountNamespace
  const uses = new Map<ByteString, OverlayUse>()
  for (const { mountNamespace, mountTable } of processes) {
    if (mountTable === null || mountNamespace === own) continue
    for (const point of overlaysIn(mountTable)) {
      const inhabitants = processes
        .filter((other) => other.mountNamespace === mountNamespace)
        .map(({ pid, command }) => ({ pid, command: display(command) }))
      const use = { mountPoint: display(point), namespace: mountNamespace, processes: inhabitants }
      uses.set(`${mountNamespace} ${point}`, use)
    }
  }
  return [...uses.values()]
}

/** Mount points of overlays in a table of proc_pid_mountinfo(5). */
export function overlaysIn(table: ByteString): ByteString[] {
  return table
    .split('\n')
    .filter((line) => / - overlay /.test(line))
    .map((line) =>
      line
        .split(' ')[4]!
        .replace(/\\([0-7]{3})/g, (_, code) => String.fromCharCode(Number.parseInt(code, 8))),
    )
}

/** One line each, for a person. */
export function describeUse({ references, mounts, modules }: ModuleUse): string[] {
  const lines = mounts.map(({ mountPoint, namespace, processes }) => {
    const shown = processes.slice(0, 5).map(({ pid, command }) => `${pid} ${command}`)
    const more = processes.length > shown.length ? `, and ${processes.length - shown.length} more` : ''
    const where = namespace === null ? mountPoint : `${mountPoint} in ${namespace}`
    return shown.length === 0 ? `mounted at ${where}` : `mounted at ${where}: ${shown.join(', ')}${more}`
  })
  for (const module of modules) lines.push(`module ${module}`)
  if (lines.length === 0 && references > 0)
    lines.push(
      `${references} references, no mount in a namespace of a process: a mount that a process holds open`,
    )
  return lines
}

async function textOf(path: string): Promise<string | null> {
  try {
    return (await readFile(path, 'utf8')).trim()
  } catch (error) {
    if (isCode(error, 'ENOENT')) return null
    throw error
  }
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return await readdir(folder)
  } catch (error) {
    if (isCode(error, 'ENOENT')) return []
    throw error
  }
}
