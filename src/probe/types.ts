// SPDX-License-Identifier: MIT
import type { Lane } from '../native.js'
import type { SeenEvent } from './events.js'
import type { Features } from './features.js'

export type Group = 'kernfs' | 'overlay' | 'ladder'

/** What one row of an experiment saw. */
export interface Observation {
  /** In words that are the same on every run: compared with the expectation table. */
  seen: string
  /** Numbers of this run, with their unit in the name (`remountUs`); not compared. */
  measured?: Record<string, number>
  events?: SeenEvent[]
  /** More in words, which may differ from run to run. */
  why?: string
}

/** A row that is known before it is run. `id` is a path: `cgroup2/mkdir/inotify-directory`. */
export interface RowPlan {
  id: string
  /** What is done, in words. */
  did: string
}

/** Something that is done once and fills some rows. */
export interface Experiment {
  group: Group
  rows: RowPlan[]
  /** @throws Skip with the reason why it cannot be done here */
  run(context: Context): Promise<Map<string, Observation | Skip>>
}

/** Not done, and why. */
export class Skip extends Error {}

/** Where experiments are done: a private mount namespace. */
export interface Context {
  lane: Lane
  /** An empty tmpfs of one's own. */
  base: string
  /** A cgroup2 of one's own, or why there is none. */
  cgroup: { path: string } | { reason: string }
  /** CAP_SYS_ADMIN in the first user namespace. */
  privileged: boolean
  features: Features
  /** Something to undo after this experiment, whatever happens. Steps run in reverse order. */
  defer(step: () => void | Promise<void>): void
  /** Writes down what is not undone by the end of the mount namespace, for the case that this process is killed. */
  remember(resource: string): void
  /** A name that no other experiment uses, of this probe or of another; up to 9 bytes longer than `prefix`. */
  name(prefix: string): string
}

export interface Row extends RowPlan {
  group: Group
  status: 'ok' | 'differs' | 'skipped'
  /** Null for a row that was skipped. */
  expected: string | null
  seen: string | null
  /** Why it was skipped, or more about what was seen. */
  reason: string
  measured: Record<string, number>
  events: SeenEvent[]
}
