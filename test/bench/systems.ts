// SPDX-License-Identifier: MIT

/** What is compared: this project, the loop that people write today, and the least that a program can do. */
import { type ChildProcess, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { startDaemon } from '../integration/fixture/daemon.js'
import type { Overlay } from '../integration/fixture/overlay.js'

export interface Running {
  stop(): Promise<void>
}

export interface System {
  name: string
  /** One line for the report. */
  what: string
  start(overlay: Overlay): Promise<Running>
}

/** `$1` is the mount, the rest are its lowers. */
const loopScript =
  'mount=$1; shift; inotifywait -m -r -e create,delete,move,attrib --format x "$@" | ' +
  'while read -r event; do mount -o remount "$mount"; done'

export const loopCommand =
  'inotifywait -m -r -e create,delete,move,attrib --format x LOWER… | while read; do mount -o remount MOUNT; done'

/** A program that prints a line when it watches; ended with its whole process group. */
async function startProgram(ready: RegExp, program: string, ...given: string[]): Promise<Running> {
  const child: ChildProcess = spawn(program, given, { stdio: ['ignore', 'pipe', 'pipe'], detached: true })
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()))
  const said: string[] = []
  const stop = async () => {
    if (child.exitCode === null && child.pid !== undefined) process.kill(-child.pid, 'SIGKILL')
    await ended
  }
  await new Promise<void>((resolve, reject) => {
    child.once('error', reject)
    void ended.then(() => reject(new Error(`${program} ended: ${said.join('\n')}`)))
    for (const stream of [child.stdout, child.stderr]) {
      if (!stream) continue
      createInterface({ input: stream }).on('line', (line) => {
        said.push(line)
        if (ready.test(line)) resolve()
      })
    }
  })
  return { stop }
}

/** One program for each overlay that belongs to the scene: neither knows more than one. */
async function forEachMount(
  overlay: Overlay,
  start: (mountPoint: string) => Promise<Running>,
): Promise<Running> {
  const running: Running[] = []
  const stop = async () => {
    for (const one of running) await one.stop()
  }
  try {
    for (const mountPoint of overlay.mountPoints) running.push(await start(mountPoint))
    return { stop }
  } catch (error) {
    await stop()
    throw error
  }
}

/** The directories that change: of an overlay on an overlay those below the inner one. */
function changedDirectories(overlay: Overlay): string[] {
  return overlay.lowers.map((_, index) => overlay.low(index + 1).toString('latin1'))
}

/** @param floorProgram - The compiled floor.c */
export function allSystems(floorProgram: string): System[] {
  return [
    {
      name: 'lowerwatch',
      what: '`lowerwatch run MOUNT`',
      start: async (overlay) => {
        const daemon = await startDaemon(overlay.mountPoints)
        // What is to be done about the time before it came is not what a change costs; ready time is measured apart.
        await daemon.settle()
        return daemon
      },
    },
    {
      name: 'remount loop',
      what: `\`${loopCommand}\``,
      start: (overlay) =>
        forEachMount(overlay, (mountPoint) =>
          startProgram(
            /Watches established/,
            'sh',
            '-c',
            loopScript,
            'sh',
            mountPoint,
            ...changedDirectories(overlay),
          ),
        ),
    },
    {
      name: 'C floor',
      what: '`test/bench/floor.c`: fanotify, fspick, FSCONFIG_CMD_RECONFIGURE and nothing else',
      start: (overlay) =>
        forEachMount(overlay, (mountPoint) => {
          const [lower = ''] = changedDirectories(overlay)
          const readOnly = overlay.upper === null ? ['ro'] : []
          return startProgram(/^ready$/, floorProgram, mountPoint, lower, ...readOnly)
        }),
    },
  ]
}
