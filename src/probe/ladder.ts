// SPDX-License-Identifier: MIT

/** Which rungs of the refresh ladder this machine offers: each is climbed once, on an overlay made for it. */
import { accessSync, constants, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs'
import { fromText } from '../bytes.js'
import { isSyscallError } from '../errors.js'
import { native } from '../native.js'
import type { RungName } from '../refresh/ladder.js'
import { proveFollowing } from '../refresh/lower-changes.js'
import { makeOverlay, remount } from './overlay/fixture.js'
import { requireModes } from './overlay/staleness.js'
import { answer } from './removal.js'
import { type Context, type Experiment, type Observation, Skip } from './types.js'

interface Rung {
  name: RungName
  did: string
  /** '' when it did what it is for. */
  climb(context: Context): Promise<string>
}

const stale = (path: string) => answer(() => (statSync(path).isFile() ? '' : 'no file'))

const rungs: Rung[] = [
  {
    name: 'kernel',
    did: 'an overlay with lower_changes=notify follows by itself',
    async climb(context) {
      requireModes(context)
      return proveFollowing(context.lane, 'notify')
    },
  },
  {
    name: 'invalidate',
    did: 'an overlay with lower_changes=manual is told the directory',
    async climb(context) {
      requireModes(context)
      const overlay = await makeOverlay(context, { mode: 'manual' })
      stale(`${overlay.merged}/x`)
      writeFileSync(`${overlay.lower}/x`, '')
      await native.invalidate(context.lane, overlay.handle, [''], { subtree: false })
      return stale(`${overlay.merged}/x`)
    },
  },
  {
    name: 'remount',
    did: 'fspick and reconfigure make a cached ENOENT go away',
    async climb(context) {
      const overlay = await makeOverlay(context)
      stale(`${overlay.merged}/x`)
      writeFileSync(`${overlay.lower}/x`, '')
      await remount(context, overlay)
      return stale(`${overlay.merged}/x`)
    },
  },
  {
    name: 'nudge',
    did: 'a name is made and removed through an overlay with an upper',
    async climb(context) {
      const overlay = await makeOverlay(context)
      await native.nudge(context.lane, overlay.handle, '')
      return ''
    },
  },
  {
    name: 'swap',
    did: 'a fresh overlay is mounted beneath one without an upper, which is detached',
    async climb(context) {
      const overlay = await makeOverlay(context, {
        upper: false,
        layers: 1,
        prepare: (lower) => writeFileSync(`${lower}/x`, 'old'),
      })
      const path = `${overlay.merged}/x`
      readFileSync(path)
      writeFileSync(`${overlay.lower}/.x`, 'new')
      renameSync(`${overlay.lower}/.x`, `${overlay.lower}/x`)
      const fresh = await native.freshOverlay(context.lane, {
        lower: ['lower', 'more0'].map((layer) => fromText(overlay.merged.replace(/merged$/, layer))),
        dataOnly: [],
        upper: null,
        options: [],
        mountAttributes: 1,
        readOnly: true,
      })
      try {
        await native.attachMount(context.lane, fresh, fromText(overlay.merged), { beneath: true })
        await native.detachMount(context.lane, fromText(overlay.merged))
      } finally {
        fresh.close()
      }
      return readFileSync(path, 'latin1') === 'new' ? '' : 'the old overlay is still there'
    },
  },
  {
    name: 'drop-caches',
    // Everybody's caches: it is not tried.
    did: 'may /proc/sys/vm/drop_caches be written? (not tried)',
    async climb(context) {
      if (!context.privileged) return 'needs root in the first user namespace'
      return answer(() => {
        accessSync('/proc/sys/vm/drop_caches', constants.W_OK)
        return ''
      })
    },
  },
]

async function offered(rung: Rung, context: Context): Promise<Observation> {
  try {
    const why = await rung.climb(context)
    return why === '' ? { seen: 'offered' } : { seen: 'not offered', why }
  } catch (error) {
    if (error instanceof Skip) return { seen: 'not offered', why: error.message }
    if (isSyscallError(error)) return { seen: 'not offered', why: error.message }
    throw error
  }
}

export const ladderRows: Experiment[] = rungs.map((rung) => ({
  group: 'ladder',
  rows: [{ id: `ladder/${rung.name}`, did: rung.did }],
  run: async (context) => new Map([[`ladder/${rung.name}`, await offered(rung, context)]]),
}))
