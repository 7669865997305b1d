// SPDX-License-Identifier: MIT

/** Who holds a listing, and what a nudge does. */
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { fromText } from '../../bytes.js'
import { native } from '../../native.js'
import { Bit, kindsOf } from '../events.js'
import { experiments } from '../native.js'
import type { Context, Experiment, Observation } from '../types.js'
import { makeOverlay, type ProbeOverlay } from './fixture.js'
import { hold } from './stale.js'

interface Case {
  id: string
  did: string
  run(context: Context): Promise<Observation>
}

const names = (path: string) => readdirSync(path).sort().join(' ')

/** A merged directory `dir` with `a` in the upper. */
async function merged(context: Context): Promise<ProbeOverlay> {
  const overlay = await makeOverlay(context, { prepare: (lower) => mkdirSync(`${lower}/dir`) })
  writeFileSync(`${overlay.merged}/dir/a`, '')
  return overlay
}

const cases: Case[] = [
  {
    id: 'overlay/listing/nobody-holds',
    did: 'a file is made in a directory that was listed, and nobody holds it: listing',
    async run(context) {
      const overlay = await merged(context)
      names(`${overlay.merged}/dir`)
      writeFileSync(`${overlay.lower}/dir/b`, '')
      return { seen: names(`${overlay.merged}/dir`) }
    },
  },
  {
    id: 'overlay/listing/let-go',
    did: 'a held listing, after the holder let go: listing',
    async run(context) {
      const overlay = await merged(context)
      const release = hold(`${overlay.merged}/dir`, context)
      writeFileSync(`${overlay.lower}/dir/b`, '')
      release()
      return { seen: names(`${overlay.merged}/dir`) }
    },
  },
  {
    id: 'overlay/listing/lowers-alone',
    did: 'a held listing of a directory that two lowers have and the upper has not: listing',
    async run(context) {
      const overlay = await makeOverlay(context, {
        layers: 1,
        upper: false,
        prepare: (lower) => {
          for (const layer of [lower, lower.replace(/lower$/, 'more0')]) mkdirSync(`${layer}/dir`)
          writeFileSync(`${lower}/dir/a`, '')
        },
      })
      hold(`${overlay.merged}/dir`, context)
      writeFileSync(`${overlay.lower}/dir/b`, '')
      return { seen: names(`${overlay.merged}/dir`) }
    },
  },
  {
    id: 'overlay/nudge/listing',
    did: 'a held listing, after a name was made and removed through the overlay: listing',
    async run(context) {
      const overlay = await merged(context)
      hold(`${overlay.merged}/dir`, context)
      writeFileSync(`${overlay.lower}/dir/b`, '')
      const started = performance.now()
      await native.nudge(context.lane, overlay.handle, fromText('dir'))
      const nudgeUs = Math.round((performance.now() - started) * 1_000)
      return { seen: names(`${overlay.merged}/dir`), measured: { nudgeUs } }
    },
  },
  {
    id: 'overlay/nudge/watchers',
    did: 'a nudge, for somebody who watches the overlay with inotify',
    async run(context) {
      const overlay = await merged(context)
      const group = new experiments.EventGroup()
      context.defer(() => group.close())
      group.watch(fromText(`${overlay.merged}/dir`), Bit.CREATE | Bit.DELETE)
      await native.nudge(context.lane, overlay.handle, fromText('dir'))
      const kinds = group.drain().flatMap((event) => kindsOf(event.mask))
      return { seen: kinds.join(' ') || 'nothing' }
    },
  },
  {
    id: 'overlay/nudge/copy-up',
    did: 'a nudge in a directory that the upper has not',
    async run(context) {
      const overlay = await makeOverlay(context, { prepare: (lower) => mkdirSync(`${lower}/dir`) })
      await native.nudge(context.lane, overlay.handle, fromText('dir'))
      return { seen: existsSync(`${overlay.upper}/dir`) ? 'copied up' : 'not copied up' }
    },
  },
]

export const listings: Experiment[] = cases.map(({ id, did, run }) => ({
  group: 'overlay',
  rows: [{ id, did }],
  run: async (context) => new Map([[id, await run(context)]]),
}))
