// SPDX-License-Identifier: MIT

/** What the cells of a change say together, as a sentence. */
import type { Feature } from './features.js'
import type { Scene } from './scene.js'
import type { Row } from './types.js'

/** The rows of one change, by the id of the watcher. */
export type Cells = Map<string, Row>

export function cellsOf(scene: Scene, rows: Row[]): Cells {
  const prefix = `${scene.fs}/${scene.action}/`
  return new Map(
    rows.filter((row) => row.id.startsWith(prefix)).map((row) => [row.id.slice(prefix.length), row]),
  )
}

const silent = (row: Row) => row.seen === 'nothing'
const taken = (row: Row) => row.seen !== null && !row.seen.startsWith('refused: ')

/** @returns '' when there is nothing to say */
export function meaning(scene: Scene, cells: Cells, features: Pick<Feature, 'id' | 'has'>[]): string {
  const rows = [...cells.values()]
  if (rows.length === 0) return ''
  const done = rows.filter((row) => row.seen !== null)
  if (done.length === 0) return `${scene.did}: not tried, ${rows[0]!.reason}`
  const refusal = /^the change: (.*)/.exec(done[0]!.seen!)?.[1]
  if (refusal !== undefined) return `${scene.did}: refused with ${refusal}`
  const listening = done.filter(taken)
  if (listening.length === 0) return `${scene.did}: nobody may listen`
  const told = listening.filter((row) => !silent(row))
  const changed = features.some(({ id, has }) => id === 'kernfs-events' && has)
  const cure = scene.series === true && !changed ? '; the kernfs series changes that' : ''
  if (told.length === 0) return `${scene.did}: without any event on this kernel${cure}`
  if (scene.series === true && told.every((row) => row.seen === 'MODIFY'))
    return `${scene.did}: without any event of its own on this kernel, MODIFY of the file that was written is the only hint${cure}`
  if (told.length === listening.length) return `${scene.did}: told to everybody who may listen`
  const deaf = listening.filter(silent)
  const names = (list: Row[]) => list.map(watcherTitle).join(', ')
  return `${scene.did}: told to ${deaf.length < told.length ? `everybody but ${names(deaf)}` : `${names(told)}; not to ${names(deaf)}`}`
}

function watcherTitle(row: Row): string {
  return row.did.slice(row.did.lastIndexOf(': ') + 2)
}
