// SPDX-License-Identifier: MIT

/** What experiments may use: made before them, and taken away after them by whoever is still alive. */
import { execFileSync } from 'node:child_process'
import { appendFileSync, mkdirSync, rmSync } from 'node:fs'
import { LowerwatchError } from '../errors.js'
import { type Lane, native } from '../native.js'
import type { Features } from './features.js'
import { inFirstUserNamespace } from './first-namespace.js'
import { lastLine } from './network.js'
import { planSuffix, type SandboxPlan } from './plan.js'
import type { Context } from './types.js'

export class Sandbox {
  readonly #lane: Lane = new native.Lane('probe')
  readonly #deferred: (() => void | Promise<void>)[] = []
  readonly #privileged = inFirstUserNamespace() && native.capabilities().includes('CAP_SYS_ADMIN')
  readonly #own: string
  #counter = 0

  constructor(readonly plan: SandboxPlan) {
    this.#own = `${plan.base}/own`
    mkdirSync(this.#own)
    try {
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'mode=0755', 'lowerwatch-probe', this.#own], {
        stdio: 'pipe',
      })
    } catch (error) {
      throw new LowerwatchError('NOT_PERMITTED', `nothing can be mounted here: ${lastLine(error)}`, {
        hint: 'run as root, or in `unshare -UrmC`',
        cause: error,
      })
    }
  }

  context(features: Features): Context {
    const suffix = planSuffix(this.plan)
    return {
      lane: this.#lane,
      base: this.#own,
      cgroup: this.plan.cgroup,
      privileged: this.#privileged,
      features,
      defer: (step) => void this.#deferred.push(step),
      remember: (resource) => appendFileSync(resourceFile(this.plan.base), `${resource}\n`),
      name: (prefix) => `${prefix}${suffix}${(++this.#counter).toString(36)}`,
    }
  }

  /** Undoes what the experiment left. @returns what could not be undone */
  async settle(): Promise<string[]> {
    const failures: string[] = []
    for (let step = this.#deferred.pop(); step !== undefined; step = this.#deferred.pop()) {
      try {
        await step()
      } catch (error) {
        failures.push(error instanceof Error ? error.message : String(error))
      }
    }
    if (failures.length === 0) rmSync(resourceFile(this.plan.base), { force: true })
    return failures
  }

  close(): void {
    this.#lane.close()
    // The rest of what is mounted goes with the namespace.
    execFileSync('umount', ['--lazy', this.#own], { stdio: 'pipe' })
  }
}

/** What a killed process leaves that no namespace takes with it, one line each; see undo.ts. */
export function resourceFile(base: string): string {
  return `${base}/resources`
}
