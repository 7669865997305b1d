// SPDX-License-Identifier: MIT

/** Takes away what a probe left that was killed: the supervisor's work, or the probe's own when that is gone. */
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync, realpathSync, rmSync } from 'node:fs'
import { LowerwatchError } from '../errors.js'
import { giveBack, isCode, removeCgroup, unescapePath } from './cgroup.js'
import { removeLoop } from './loop.js'
import type { SandboxPlan } from './plan.js'
import { resourceFile } from './sandbox.js'

/**
 * Idempotent: what is gone is gone. One step that fails keeps none of the others from being tried.
 *
 * @throws LowerwatchError SYSCALL that names everything that is left behind
 */
export async function undo(plan: SandboxPlan): Promise<void> {
  const failures: unknown[] = []
  const attempt = async (step: () => void | Promise<void>) => {
    try {
      await step()
    } catch (error) {
      failures.push(error)
    }
  }
  const { cgroup, base } = plan
  if ('path' in cgroup) await attempt(() => removeCgroup(cgroup.path))
  let remembered: string[] = []
  await attempt(() => {
    remembered = resources(base).reverse()
  })
  for (const resource of remembered) await attempt(() => undoResource(resource))
  await attempt(() => {
    const mounted = mountsIn(base)
    // What is mounted is not the probe's to empty: cgroup2, tracefs, or an overlay of somebody's directories.
    if (mounted.length > 0) throw new Error(`${base} is left behind: mounted: ${mounted.join(', ')}`)
    rmSync(base, { recursive: true, force: true })
  })
  if (failures.length === 0) return
  const said = failures.map((failure) => (failure instanceof Error ? failure.message : String(failure)))
  throw new LowerwatchError('SYSCALL', said.join('; '), { cause: new AggregateError(failures) })
}

/** Mount points at or below a directory, in this process's mount namespace. */
function mountsIn(directory: string): string[] {
  if (!existsSync(directory)) return []
  const path = realpathSync(directory)
  return readFileSync('/proc/self/mountinfo', 'latin1')
    .split('\n')
    .map((line) => Buffer.from(unescapePath(line.split(' ')[4] ?? ''), 'latin1').toString())
    .filter((point) => point === path || point.startsWith(`${path}/`))
}

function resources(base: string): string[] {
  try {
    return readFileSync(resourceFile(base), 'utf8').split('\n').filter(Boolean)
  } catch (error) {
    if (isCode(error, 'ENOENT')) return []
    throw error
  }
}

async function undoResource(resource: string): Promise<void> {
  const [kind, ...words] = resource.split(' ')
  if (kind === 'loop' && existsSync(`/sys/block/loop${words[0]}`)) await removeLoop(Number(words[0]))
  if (kind === 'controller') giveBack(words[0]!, words.slice(1).join(' '))
  if (kind === 'directory') removeIn(words as [string, string, string])
}

/** The file system may be mounted nowhere any more: it is mounted once more, where nobody sees it. */
function removeIn([type, options, path]: [string, string, string]): void {
  const script =
    'mount -t "$1" -o "$2" none /tmp && for p in "/tmp/$3" "/tmp/$3-renamed"; do if [ -d "$p" ]; then rmdir "$p"; fi; done'
  const args = ['--mount', '--propagation', 'private', '--', 'sh', '-c', script, 'sh', type, options, path]
  const { status, stderr } = spawnSync('unshare', args, { stdio: ['ignore', 'ignore', 'pipe'] })
  if (status !== 0) throw new Error(`${type} ${path} is left behind: ${String(stderr).trim()}`)
}
