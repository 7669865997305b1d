// SPDX-License-Identifier: MIT

/**
 * Seeded random operations in two lowers and through the overlay, with readers and holders. At every quiet moment
 * the live overlay is what a fresh mount of the same layers is; what a holder keeps stale is named, and nothing
 * else is. LOWERWATCH_RANDOM_SEED and LOWERWATCH_RANDOM_OPS replay or lengthen a run.
 */
import { readdirSync } from 'node:fs'
import { expect, test } from 'vitest'
import { join } from '../../src/bytes.js'
import { Actor, unprivilegedReader } from './fixture/actor.js'
import { Cleanup } from './fixture/cleanup.js'
import { compareTrees } from './fixture/compare.js'
import { type Daemon, pathOf, startDaemon } from './fixture/daemon.js'
import { eventually } from './fixture/eventually.js'
import { makeOverlay, type Overlay } from './fixture/overlay.js'
import { sharesCopiedUpInode } from './random/copied-up.js'
import { Holders } from './random/holders.js'
import { operate, type Stage } from './random/operations.js'
import { Seeded } from './random/seeded.js'

/** A new one each time, but where a change is judged: there it has to fail for what the change does. */
const seed = Number(
  process.env.LOWERWATCH_RANDOM_SEED ?? (process.env.CI === 'true' ? 1 : Date.now() % 2 ** 31),
)
const operations = Number(process.env.LOWERWATCH_RANDOM_OPS ?? 1_500)
const betweenQuiet = 50
/** Without the daemon, where there is nothing to wait for. */
const betweenLooks = 10
/** How long a holder's release may take to be noticed. */
const quietLimitMs = 5_000
const logTail = 120

interface Run {
  overlay: Overlay
  daemon: Daemon
  reader: Actor | null
  holders: Holders
}

const isAtOrBelow = (path: string, top: string) => path === top || path.startsWith(`${top}/`)

/** Null when every difference is under a named path, and everything named has one of our holders. */
async function checkQuiet({ overlay, daemon, reader, holders }: Run): Promise<string | null> {
  const { unresolved } = await daemon.overlay(overlay.mountPoint)
  const strangers = unresolved.find(({ holders: named }) => !named.some(({ pid }) => holders.pids.has(pid)))
  if (strangers !== undefined) return `named without a holder: ${JSON.stringify(strangers)}`
  const fresh = overlay.fresh()
  try {
    const differences = await compareTrees(overlay.mountPoint, fresh.overlay.mountPoint, { reader })
    const explained = (path: string) =>
      unresolved.some(({ path: named, kind }) =>
        kind === 'listing' ? pathOf(named) === path : isAtOrBelow(path, pathOf(named)),
      )
    const unexplained: typeof differences = []
    for (const difference of differences) {
      // The listing leaves out a name whose look-up fails.
      const { path, name } = difference
      const at = name === undefined ? path : join(path, name)
      if (explained(path) || explained(at) || (await sharesCopiedUpInode(overlay, at))) continue
      unexplained.push(difference)
    }
    if (unexplained.length > 0) {
      return `${JSON.stringify(unexplained.slice(0, 5))}, named are ${JSON.stringify(unresolved)}`
    }
    for await (const { path, names } of holders.listings()) {
      if (explained(path) || unresolved.some(({ path: named }) => isAtOrBelow(path, pathOf(named)))) continue
      const right = readdirSync(fresh.overlay.at(path), 'latin1').sort()
      const shared = new Set<string>()
      for (const name of [...names, ...right])
        if (await sharesCopiedUpInode(overlay, join(path, name))) shared.add(name)
      const [read, expected] = [names, right].map((all) =>
        JSON.stringify(all.filter((name) => !explained(join(path, name)) && !shared.has(name))),
      )
      if (read !== expected) return `a holder of ${JSON.stringify(path)} reads ${read}, not ${expected}`
    }
    return null
  } finally {
    fresh.unmount()
  }
}

test(`the same operations without the daemon leave differences, seed ${seed}`, async () => {
  const cleanup = new Cleanup()
  try {
    const overlay = await makeOverlay({ lowers: 2, upper: true, lowerFs: 'tmpfs' })
    cleanup.defer('overlay', () => overlay.unmount())
    const changer = new Actor()
    cleanup.defer('changer', () => changer.stop())
    const stage: Stage = { random: new Seeded(seed), overlay, changer, count: 0, done: 0, choice: 0 }
    const differ = async () => {
      const fresh = overlay.fresh()
      try {
        return (await compareTrees(overlay.mountPoint, fresh.overlay.mountPoint)).length > 0
      } finally {
        fresh.unmount()
      }
    }
    // Looks are what fills the cache: with few of them, an unlucky seed leaves nothing stale
    for (let next = betweenLooks; !(await differ()); next += betweenLooks) {
      if (next > 500) expect.fail('no difference: the random test could not fail')
      while (stage.done < next) await operate(stage)
    }
  } finally {
    await cleanup.run()
  }
})

test(`${operations} random operations, seed ${seed}`, { timeout: 60_000 + operations * 100 }, async () => {
  const cleanup = new Cleanup()
  const log: string[] = []
  try {
    const overlay = await makeOverlay({ lowers: 2, upper: true, lowerFs: 'tmpfs' })
    cleanup.defer('overlay', () => overlay.unmount())
    const daemon = await startDaemon([overlay.mountPoint])
    cleanup.defer('daemon', () => daemon.stop())
    const reader = await unprivilegedReader()
    cleanup.defer('reader', () => reader?.stop())
    const changer = new Actor()
    cleanup.defer('changer', () => changer.stop())
    const holders = new Holders(overlay)
    cleanup.defer('holders', () => holders.letGo())
    const run: Run = { overlay, daemon, reader, holders }
    const stage: Stage = { random: new Seeded(seed), overlay, changer, count: 0, done: 0, choice: 0 }

    const quiet = async () => {
      await daemon.settle()
      const { wrong } = await eventually(() => checkQuiet(run), { withinMs: quietLimitMs })
      if (wrong === null) return
      const tail = log.slice(-logTail).join('\n')
      const said = daemon.log.slice(-20).join('\n')
      expect.fail(
        `seed ${seed}, after ${stage.done} operations: ${wrong}\n${tail}\nthe daemon's log:\n${said}`,
      )
    }

    for (let next = betweenQuiet; stage.done < operations; ) {
      log.push(await operate(stage))
      if (stage.random.below(50) === 0) log.push(await holders.act(stage.random))
      if (stage.done < next) continue
      next += betweenQuiet
      await quiet()
    }
    await holders.letGo()
    await quiet()
    const { unresolved } = await daemon.overlay(overlay.mountPoint)
    expect(unresolved, `seed ${seed}: nothing is held any more`).toEqual([])
  } finally {
    await cleanup.run()
  }
})
