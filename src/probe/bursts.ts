// SPDX-License-Identifier: MIT

/** More changes than a queue holds, and what a change costs whoever listens. */
import { mkdirSync, readFileSync, watch } from 'node:fs'
import { setImmediate as turn } from 'node:timers/promises'
import { fromText } from '../bytes.js'
import { Bit, kindsOf } from './events.js'
import { mountFor } from './namespaces.js'
import { type EventGroup, experiments } from './native.js'
import { type Context, type Experiment, type Observation, Skip } from './types.js'

interface Case {
  id: string
  did: string
  run(context: Context): Promise<Observation> | Observation
}

const DFID_NAME = 0xc00

/** One more than what a queue holds. */
function tooMany(which: 'fanotify' | 'inotify'): number {
  const limit = Number(readFileSync(`/proc/sys/fs/${which}/max_queued_events`, 'latin1'))
  if (limit > 100_000) throw new Skip(`the queue holds ${limit} events, too many to try`)
  return limit + 100
}

function listen(context: Context, directory: string, which: 'fanotify' | 'inotify'): EventGroup {
  const group = new experiments.EventGroup(which === 'fanotify' ? DFID_NAME : undefined)
  context.defer(() => group.close())
  if (which === 'fanotify') group.mark(0, Bit.CREATE | 0x40000000, fromText(directory))
  else group.watch(fromText(directory), Bit.CREATE)
  return group
}

function make(directory: string, count: number): number {
  const started = performance.now()
  for (let index = 0; index < count; index++) mkdirSync(`${directory}/${index}`)
  return ((performance.now() - started) * 1_000) / count
}

const overflows = (['fanotify', 'inotify'] as const).map(
  (which): Case => ({
    id: `facts/overflow/${which}`,
    did: `more changes than the queue of ${which} holds`,
    run(context) {
      const count = tooMany(which)
      const directory = mountFor(context, 'tmpfs')
      const plainUs = make(mountFor(context, 'tmpfs'), 2_000)
      const group = listen(context, directory, which)
      const makeUs = make(directory, count)
      const started = performance.now()
      const events = group.drain()
      const readUs = ((performance.now() - started) * 1_000) / events.length
      const last = events.at(-1)!
      const records = last.records?.length ?? 0
      const seen = `${events.filter((event) => (event.mask & Bit.OVERFLOW) !== 0).length} ${kindsOf(last.mask).join('|')}, ${
        which === 'fanotify' ? `${last.lengthBytes} bytes, ${records} records` : `watch ${last.watch}`
      }`
      const round = (value: number) => Math.round(value * 100) / 100
      return {
        seen,
        measured: {
          lost: count - events.length + 1,
          plainUs: round(plainUs),
          makeUs: round(makeUs),
          readUs: round(readUs),
        },
      }
    },
  }),
)

const fsWatch: Case = {
  id: 'facts/fs-watch',
  did: 'more changes than the queue holds, with fs.watch of Node.js',
  async run(context) {
    const made = tooMany('inotify')
    const directory = mountFor(context, 'tmpfs')
    const heard = new Set<string>()
    let failed = false
    const watcher = watch(directory, (_, name) => void heard.add(String(name)))
    watcher.on('error', () => {
      failed = true
    })
    context.defer(() => watcher.close())
    make(directory, made)
    // All that is queued is readable now: it is read when turns bring nothing more.
    for (let before = -1, quiet = 0; quiet < 20; quiet = before === heard.size ? quiet + 1 : 0) {
      before = heard.size
      await turn()
    }
    const seen =
      heard.size === made ? 'complete' : failed ? 'incomplete, with an error' : 'incomplete, without an error'
    return { seen, measured: { made, heard: heard.size } }
  },
}

const watchCost: Case = {
  id: 'facts/watch-cost',
  did: 'an inotify watch on each of 1,000 directories, and one fanotify mark on their file system',
  run(context) {
    const directory = mountFor(context, 'tmpfs')
    make(directory, 1_000)
    const group = new experiments.EventGroup()
    context.defer(() => group.close())
    const started = performance.now()
    for (let index = 0; index < 1_000; index++) group.watch(fromText(`${directory}/${index}`), Bit.CREATE)
    const watchUs = Math.round((performance.now() - started) * 10) / 10
    const measured: Record<string, number> = { watchUs }
    if (context.features.get('fs-mark')?.has === true) {
      const mark = new experiments.EventGroup(DFID_NAME)
      context.defer(() => mark.close())
      const before = performance.now()
      mark.mark(0x100, Bit.CREATE, fromText(directory))
      measured.filesystemMarkUs = Math.round((performance.now() - before) * 10_000) / 10
    }
    return { seen: 'measured', measured }
  },
}

export const bursts: Experiment[] = [...overflows, fsWatch, watchCost].map(({ id, did, run }) => ({
  group: 'overlay',
  rows: [{ id, did }],
  run: async (context) => new Map([[id, await run(context)]]),
}))
