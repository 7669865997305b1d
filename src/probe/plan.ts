// SPDX-License-Identifier: MIT

/** What the supervisor hands to the process inside, through the environment, which others can write too. */
import { lstatSync, readlinkSync } from 'node:fs'
import { basename, isAbsolute } from 'node:path'
import * as v from 'valibot'
import { LowerwatchError } from '../errors.js'
import { inFirstUserNamespace } from './first-namespace.js'

/** Of the supervisor's directory, and of whatever is made with its name. */
export const probePrefix = 'lowerwatch-probe-'

const Plan = v.object({
  /** A directory of the machine's, which the supervisor removes. */
  base: v.string(),
  cgroup: v.union([v.object({ path: v.string() }), v.object({ reason: v.string() })]),
})

/** Handed from the process that supervises to the one in the private namespace. */
export type SandboxPlan = v.InferOutput<typeof Plan>

/** What tells this probe from every other: the end of its directory's name. */
export function planSuffix({ base }: SandboxPlan): string {
  return basename(base).slice(probePrefix.length)
}

/**
 * Things are mounted, killed and removed as a plan says: an environment that came through sudo(8) must not name the place.
 *
 * @throws LowerwatchError NOT_PERMITTED when no supervisor of this user made it for this process
 */
export function acceptPlan(text: string, parent = process.ppid): SandboxPlan {
  const plan = parsed(text)
  const why =
    plan === null ? 'it is no plan' : (wrongPlace(plan) ?? (isPrivate(parent) ? null : 'no mount namespace'))
  if (plan !== null && why === null) return plan
  throw new LowerwatchError('NOT_PERMITTED', `LOWERWATCH_PROBE_PLAN is not from a probe: ${why}`, {
    hint: 'unset it',
  })
}

function parsed(text: string): SandboxPlan | null {
  try {
    const checked = v.safeParse(Plan, JSON.parse(text))
    return checked.success ? checked.output : null
  } catch (error) {
    if (error instanceof SyntaxError) return null
    throw error
  }
}

/** Why it cannot be what {@link superviseProbe} made; null when it can. */
function wrongPlace({ base, cgroup }: SandboxPlan): string | null {
  if (!isAbsolute(base) || !/^lowerwatch-probe-[A-Za-z0-9]{6}$/.test(basename(base)))
    return 'another directory'
  const found = lstatSync(base, { throwIfNoEntry: false })
  if (found?.isDirectory() !== true) return 'no directory'
  if ((found.mode & 0o7777) !== 0o700 || found.uid !== process.getuid?.()) return 'somebody else’s directory'
  if ('path' in cgroup && (!isAbsolute(cgroup.path) || basename(cgroup.path) !== basename(base)))
    return 'another cgroup'
  return null
}

/** Whether this process has a mount namespace that its parent has not. */
function isPrivate(parent: number): boolean {
  try {
    return readlinkSync('/proc/self/ns/mnt') !== readlinkSync(`/proc/${parent}/ns/mnt`)
  } catch (error) {
    // From a user namespace of its own the parent's may not be read, and nothing outside it can be mounted on.
    if ((error as NodeJS.ErrnoException).code === 'EACCES') return !inFirstUserNamespace()
    throw error
  }
}
