// SPDX-License-Identifier: MIT
import { readlinkSync } from 'node:fs'
import { Actor, ActorError } from '../fixture/actor.js'
import type { Overlay } from '../fixture/overlay.js'
import { anyPath } from './operations.js'
import type { Seeded } from './seeded.js'

interface Held {
  fd: number
  path: string
  directory: boolean
}

/** A few processes that open, keep and close things of the overlay, and work in its directories. */
export class Holders {
  readonly #actors: { actor: Actor; held: Held[]; cwd: boolean }[]

  constructor(readonly overlay: Overlay) {
    this.#actors = [new Actor(), new Actor()].map((actor) => ({ actor, held: [], cwd: false }))
  }

  /** Process ids that keep anything now. */
  get pids(): Set<number> {
    const keeping = this.#actors.filter(({ held, cwd }) => held.length > 0 || cwd)
    return new Set(keeping.map(({ actor }) => actor.pid))
  }

  /** Takes hold of something, or lets go of something. Returns the line for the log. */
  async act(random: Seeded): Promise<string> {
    const index = random.below(this.#actors.length)
    const chosen = this.#actors[index]
    const choice = random.below(6)
    const which = random.below(1000)
    const inRoot = random.below(4) === 0
    const known = anyPath(random, (below) => this.overlay.low(2, below), 'known')
    const path = inRoot ? '' : known
    if (chosen === undefined) throw new Error('no such holder')
    const { actor, held } = chosen
    const line = `holder ${index}`
    if (choice < 3 && held.length > 0) {
      const released = held.splice(which % held.length, 1)[0] as Held
      await actor.close(released.fd)
      return `${line} closes ${JSON.stringify(released.path)}`
    }
    if (choice === 3) {
      await actor.chdir('/')
      chosen.cwd = false
      return `${line} goes to /`
    }
    try {
      if (choice === 4) {
        await actor.chdir(this.overlay.at(path))
        chosen.cwd = true
        return `${line} works in ${JSON.stringify(path)}`
      }
      const fd = await actor.open(this.overlay.at(path))
      held.push({ fd, path, directory: await this.#read(actor, fd) })
      return `${line} opens ${JSON.stringify(path)}`
    } catch (error) {
      if (error instanceof ActorError) return `${line} cannot hold ${JSON.stringify(path)}: ${error.code}`
      throw error
    }
  }

  async #read(actor: Actor, fd: number): Promise<boolean> {
    try {
      await actor.names(fd)
      return true
    } catch (error) {
      if (error instanceof ActorError && error.code === 'ENOTDIR') return false
      if (error instanceof ActorError) return true
      throw error
    }
  }

  /** What each holder reads from a rewound directory that is still the one at its path; sorted names. */
  async *listings(): AsyncGenerator<{ path: string; names: string[] }> {
    for (const { actor, held } of this.#actors) {
      for (const { fd, path, directory } of held) {
        if (!directory) continue
        // "(deleted)": the descriptor's directory is no longer the one that this path leads to.
        const link = readlinkSync(`/proc/${actor.pid}/fd/${fd}`, 'latin1')
        if (link !== this.overlay.at(path).toString('latin1')) continue
        const names = await actor.rewind(fd).catch(() => null)
        if (names !== null) yield { path, names: names.sort() }
      }
    }
  }

  async letGo(): Promise<void> {
    for (const { actor } of this.#actors) await actor.stop()
    for (const one of this.#actors) {
      one.held.length = 0
      one.cwd = false
    }
  }
}
