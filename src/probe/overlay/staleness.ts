// SPDX-License-Identifier: MIT

/** Each kind of staleness on a stock mount, after a remount, and with every mode of a patched overlayfs. */
import { native } from '../../native.js'
import type { LowerChangesMode } from '../../overlay/types.js'
import { type Context, type Experiment, type Observation, Skip } from '../types.js'
import { makeOverlay, remount } from './fixture.js'
import { type Kind, kinds } from './stale.js'

const modes: LowerChangesMode[] = ['notify', 'reval', 'manual']

const means: Record<string, string> = {
  notify: 'lower_changes=notify',
  reval: 'lower_changes=reval',
  manual: 'lower_changes=manual, and told the directory',
}

function plain(kind: Kind): Experiment {
  const ids = { plain: `overlay/${kind.id}/plain`, remount: `overlay/${kind.id}/remount` }
  return {
    group: 'overlay',
    rows: [
      { id: ids.plain, did: kind.did },
      { id: ids.remount, did: `${kind.did}, after a remount` },
    ],
    async run(context) {
      const off = context.features.get('lower-changes')?.has === true ? { mode: 'off' as const } : {}
      const overlay = await makeOverlay(context, { ...kind.wish, ...off })
      await kind.warm(overlay, context)
      kind.change(overlay)
      const rows = new Map<string, Observation>([[ids.plain, { seen: await kind.look(overlay, context) }]])
      const remountUs = await remount(context, overlay)
      return rows.set(ids.remount, { seen: await kind.look(overlay, context), measured: { remountUs } })
    },
  }
}

function following(kind: Kind, mode: LowerChangesMode): Experiment {
  const id = `overlay/${kind.id}/${mode}`
  return {
    group: 'overlay',
    rows: [{ id, did: `${kind.did}, with ${means[mode]}` }],
    async run(context) {
      requireModes(context)
      const overlay = await makeOverlay(context, { ...kind.wish, mode })
      await kind.warm(overlay, context)
      kind.change(overlay)
      const startedNs = process.hrtime.bigint()
      if (mode === 'manual') await native.invalidate(context.lane, overlay.handle, [''], { subtree: true })
      const tellUs = Number((process.hrtime.bigint() - startedNs) / 1_000n)
      const seen = await kind.look(overlay, context)
      return new Map([[id, mode === 'manual' ? { seen, measured: { tellUs } } : { seen }]])
    },
  }
}

export function requireModes(context: Context): void {
  if (context.features.get('lower-changes')?.has !== true)
    throw new Skip('this overlayfs has no lower_changes option')
}

export const staleness: Experiment[] = kinds.flatMap((kind) => [
  plain(kind),
  ...modes.map((mode) => following(kind, mode)),
])
