// SPDX-License-Identifier: MIT
import { expect, test } from 'vitest'
import type { Managed } from '../../../src/daemon/manager.js'
import { Nesting } from '../../../src/daemon/nesting.js'
import type { OpenOverlay } from '../../../src/overlay/types.js'
import type { ChangeStream } from '../../../src/watch/stream.js'

/** An overlay with one layer of its own and one in the overlay `device`. */
function above(device: string): OpenOverlay {
  const layers = [null, { device, directory: '' }].map((nested) => ({ nested, revalidates: false }))
  return { description: { device: '0:2' }, layers } as unknown as OpenOverlay
}

const managedAs = (device: string, overlay: object) =>
  new Map([[device, { controller: { overlay } } as unknown as Managed]])
const nestingOf = (managed: ReadonlyMap<string, Managed>) => new Nesting(managed, {} as ChangeStream)
const revalidates = (overlay: OpenOverlay) => overlay.layers.map((layer) => layer.revalidates)

test('an overlay that is taken after the one below was switched knows that it revalidates', () => {
  const overlay = above('0:1')
  nestingOf(managedAs('0:1', { layers: [] })).learnSwitched(overlay)
  expect(revalidates(overlay)).toEqual([false, false])
  nestingOf(managedAs('0:1', { layers: [], switchedTo: 'notify' })).learnSwitched(overlay)
  expect(revalidates(overlay)).toEqual([false, true])
})

test('an overlay above one that is switched now is told', () => {
  const overlay = above('0:1')
  const nesting = nestingOf(managedAs('0:2', overlay))
  nesting.tellSwitched('0:9')
  expect(revalidates(overlay)).toEqual([false, false])
  nesting.tellSwitched('0:1')
  expect(revalidates(overlay)).toEqual([false, true])
})
