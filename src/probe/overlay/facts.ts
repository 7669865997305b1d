// SPDX-License-Identifier: MIT

/** What the daemon builds on: what can be asked of an overlay without changing it, and what a remount costs. */
import { mkdirSync, readdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs'
import { fromText } from '../../bytes.js'
import { Cached, native } from '../../native.js'
import { experiments } from '../native.js'
import { answer } from '../removal.js'
import type { Context, Experiment, Observation, Skip } from '../types.js'
import { makeOverlay, remount } from './fixture.js'

type Rows = Record<string, string>

function experiment(
  rows: Rows,
  run: (context: Context) => Promise<Record<string, Observation | Skip>>,
): Experiment {
  return {
    group: 'overlay',
    rows: Object.entries(rows).map(([id, did]) => ({ id, did })),
    run: async (context) => new Map(Object.entries(await run(context))),
  }
}

const cachedName = (answerOf: number | undefined) =>
  Object.entries(Cached).find(([, value]) => value === answerOf)?.[0] ?? String(answerOf)

const cgroupLower = experiment(
  { 'overlay/cgroup2-lower': 'an overlay with cgroup2 as lower and tmpfs as upper' },
  async (context) => {
    const { merged } = await makeOverlay(context, { lower: 'cgroup2' })
    const shown = readdirSync(merged).includes('cgroup.procs')
    return { 'overlay/cgroup2-lower': { seen: shown ? 'mounts, shows the cgroup' : 'mounts, shows nothing' } }
  },
)

const resolveCached = experiment(
  {
    'overlay/cached/unknown': 'openat2 with RESOLVE_CACHED of a name that nobody asked for, twice',
    'overlay/cached/negative': 'openat2 with RESOLVE_CACHED of a name that was asked for in vain',
    'overlay/cached/positive': 'openat2 with RESOLVE_CACHED of a file that was looked at',
  },
  async (context) => {
    const overlay = await makeOverlay(context, {
      prepare: (lower) => {
        for (const name of ['never', 'looked-at']) writeFileSync(`${lower}/${name}`, '')
      },
    })
    const probe = (name: string) => cachedName(native.probeCached(overlay.handle, '', [name])[0])
    answer(() => String(statSync(`${overlay.merged}/nothing`)))
    statSync(`${overlay.merged}/looked-at`)
    const unknown = `${probe('never')}, ${probe('never')}`
    const many = Array<string>(10_000).fill('looked-at')
    const started = performance.now()
    native.probeCached(overlay.handle, '', many)
    const probeNs = Math.round(((performance.now() - started) * 1e6) / many.length)
    return {
      'overlay/cached/unknown': { seen: unknown },
      'overlay/cached/negative': { seen: probe('nothing') },
      'overlay/cached/positive': { seen: probe('looked-at'), measured: { probeNs } },
    }
  },
)

const legacyRemount = experiment(
  { 'overlay/legacy-remount': 'mount(2) with MS_REMOUNT alone, on an overlay mounted read-only: write' },
  async (context) => {
    const overlay = await makeOverlay(context, { readOnlyMount: true })
    const write = () =>
      answer(() => {
        writeFileSync(`${overlay.merged}/x`, '')
        return 'works'
      })
    const before = write()
    experiments.remountWithoutFlags(fromText(overlay.merged))
    return { 'overlay/legacy-remount': { seen: `before ${before}, after ${write()}` } }
  },
)

const reconfigureKeeps = experiment(
  {
    'overlay/reconfigure': 'fspick and reconfigure without an option, on an overlay mounted read-only: write',
  },
  async (context) => {
    const overlay = await makeOverlay(context, { readOnlyMount: true })
    await remount(context, overlay)
    const seen = answer(() => {
      writeFileSync(`${overlay.merged}/x`, '')
      return 'works'
    })
    return { 'overlay/reconfigure': { seen } }
  },
)

const oracle = experiment(
  { 'overlay/oracle': 'a file is replaced by rename: the overlay, and a fresh one of the same layers' },
  async (context) => {
    const overlay = await makeOverlay(context, { prepare: (lower) => writeFileSync(`${lower}/file`, 'old') })
    const read = (path: string) => answer(() => readFileSync(path, 'latin1'))
    read(`${overlay.merged}/file`)
    writeFileSync(`${overlay.lower}/.file`, 'new')
    renameSync(`${overlay.lower}/.file`, `${overlay.lower}/file`)
    const started = performance.now()
    const fresh = await native.freshOverlay(context.lane, {
      lower: [overlay.upper, overlay.lower].map(fromText),
      dataOnly: [],
      upper: null,
      options: [],
      mountAttributes: 1,
      readOnly: true,
    })
    const freshUs = Math.round((performance.now() - started) * 1_000)
    try {
      const seen = `live ${read(`${overlay.merged}/file`)}, fresh ${read(`/proc/self/fd/${fresh.fd}/file`)}`
      return { 'overlay/oracle': { seen, measured: { freshUs } } }
    } finally {
      fresh.close()
    }
  },
)

/** A machine that needs longer than this for one size does not try the next. */
const patienceMs = 200

const cost = experiment(
  { 'overlay/remount-cost': 'a remount with 100, 10,000 and (on a fast machine) 100,000 dentries cached' },
  async (context) => {
    const measured: Record<string, number> = {}
    for (const count of [100, 10_000, 100_000]) {
      const overlay = await makeOverlay(context)
      const started = performance.now()
      for (let index = 0; index < count; index += 1_000) fill(overlay.lower, overlay.merged, index, count)
      measured[`remountUs${count}`] = await remount(context, overlay)
      // Ten times as many would take ten times as long.
      if (count > 100 && performance.now() - started > patienceMs) break
    }
    const [few, many] = [measured.remountUs100!, measured.remountUs10000!]
    return { 'overlay/remount-cost': { seen: many > few ? 'more with more cached' : 'no more', measured } }
  },
)

function fill(lower: string, merged: string, from: number, count: number): void {
  const directory = `d${from}`
  mkdirSync(`${lower}/${directory}`)
  for (let index = from; index < Math.min(count, from + 1_000); index++) {
    writeFileSync(`${lower}/${directory}/${index}`, '')
    statSync(`${merged}/${directory}/${index}`)
  }
}

export const overlayFacts: Experiment[] = [
  cgroupLower,
  resolveCached,
  legacyRemount,
  reconfigureKeeps,
  oracle,
  cost,
]
