// SPDX-License-Identifier: MIT

import { eventLine } from './events.js'
/** The report for people: a matrix for each file system with the sentences it means, then facts and rungs. */
import { allScenes } from './experiments.js'
import { cellsOf, meaning } from './meaning.js'
import type { ProbeReport } from './run.js'
import type { Scene } from './scene.js'
import type { Row } from './types.js'
import { watchers } from './watchers.js'

const letters: Record<string, string> = {
  CREATE: 'C',
  DELETE: 'D',
  MODIFY: 'M',
  ATTRIB: 'A',
  MOVED_FROM: 'F',
  MOVED_TO: 'T',
  RENAME: 'R',
  DELETE_SELF: 'd',
  MOVE_SELF: 'm',
  IGNORED: 'i',
  UNMOUNT: 'u',
  MNT_ATTACH: '+',
  MNT_DETACH: '-',
}

const legend = [
  ...Object.entries(letters).map(([kind, letter]) => `${letter} ${kind}`),
  '. nothing',
  'x the watch is refused',
  'X the change is refused',
  's skipped',
  '! differs from the expectation',
].join(', ')

const columnNames: Record<string, string> = {
  'inotify-directory': 'in:dir',
  'inotify-object': 'in:obj',
  'inotify-file': 'in:file',
  'fanotify-inode-fid': 'i:fid',
  'fanotify-inode-name': 'i:name',
  'fanotify-inode-target': 'i:target',
  'fanotify-inode-object': 'i:obj',
  'fanotify-inode-file': 'i:file',
  'fanotify-mount': 'mount',
  'fanotify-fs-fid': 'fs:fid',
  'fanotify-fs-name': 'fs:name',
  'fanotify-fs-target': 'fs:target',
  'fanotify-inode-rename': 'i:rename',
  'fanotify-fs-rename': 'fs:rename',
  'fanotify-mntns': 'mntns',
}

export function textReport(report: ProbeReport, withEvents: boolean): string {
  const { rows } = report
  const matrix = matrices(report)
  const lines = [`Linux ${report.kernel} on ${report.processor}, as ${report.user}`, '']
  lines.push(...table(report.features.map(({ id, what, has }) => [has ? 'yes' : 'no', id, what])))
  if (matrix.length > 0) lines.push('', legend, ...matrix)
  for (const [title, chosen] of [
    ['What an open descriptor of something removed does', rows.filter((row) => isRemoval(row))],
    ['Overlays', rows.filter((row) => row.group === 'overlay')],
    ['The ladder', rows.filter((row) => row.group === 'ladder')],
  ] as const) {
    if (chosen.length > 0) lines.push('', title, ...table(chosen.map(cells)))
  }
  if (withEvents) lines.push(...events(rows))
  lines.push('', ...verdict(report))
  return lines.join('\n')
}

const isRemoval = (row: Row) => row.id.includes('/removed-while-open/')

function matrices(report: ProbeReport): string[] {
  const lines: string[] = []
  const scenes = allScenes().filter((scene) => cellsOf(scene, report.rows).size > 0)
  for (const fs of new Set(scenes.map((scene) => scene.fs))) {
    const own = scenes.filter((scene) => scene.fs === fs)
    const columns = watchers.filter(({ id }) => own.some((scene) => cellsOf(scene, report.rows).has(id)))
    const head = [fs, ...columns.map(({ id }) => columnNames[id]!)]
    const body = own.map((scene) => [scene.action, ...columns.map(({ id }) => cell(scene, id, report.rows))])
    lines.push('', ...table([head, ...body]))
    for (const scene of own) lines.push(`  ${sentence(scene, report)}`)
  }
  return lines
}

function sentence(scene: Scene, report: ProbeReport): string {
  return meaning(scene, cellsOf(scene, report.rows), report.features)
}

function cell(scene: Scene, watcher: string, rows: Row[]): string {
  const row = cellsOf(scene, rows).get(watcher)
  if (row === undefined) return ''
  return `${symbol(row.seen)}${row.status === 'differs' ? '!' : ''}`
}

function symbol(seen: string | null): string {
  if (seen === null) return 's'
  if (seen === 'nothing') return '.'
  if (seen.startsWith('refused: ')) return 'x'
  if (seen.startsWith('the change: ')) return 'X'
  if (seen.startsWith('failed: ')) return '?'
  const [kinds, note] = seen.split(' (')
  const text = kinds!.split(' ').map((kind) => letters[kind] ?? kind)
  return text.join('') + (note === undefined ? '' : '*')
}

function cells(row: Row): string[] {
  const numbers = Object.entries(row.measured).map(([name, value]) => `${name} ${value}`)
  const more = [row.status === 'differs' ? `expected ${row.expected}` : '', row.reason, numbers.join(', ')]
  return [row.status, row.id, row.seen ?? '-', more.filter(Boolean).join('; ')]
}

function table(rows: readonly (readonly string[])[]): string[] {
  const widths = rows[0]?.map((_, column) => Math.max(...rows.map((row) => row[column]!.length))) ?? []
  return rows.map((row) =>
    row
      .map((text, column) => text.padEnd(widths[column]!))
      .join('  ')
      .trimEnd(),
  )
}

function events(rows: Row[]): string[] {
  return rows
    .filter((row) => row.events.length > 0)
    .flatMap((row) => ['', row.id, ...row.events.map((event) => `  ${eventLine(event)}`)])
}

function verdict({ rows, leftBehind }: ProbeReport): string[] {
  const count = (status: Row['status']) => rows.filter((row) => row.status === status).length
  return [
    ...rows
      .filter((row) => row.status === 'differs')
      .map((row) => `differs: ${row.id}: expected ${row.expected}, seen ${row.seen} (${row.did})`),
    ...leftBehind.map((what) => `left behind: ${what}`),
    `${count('ok')} as expected, ${count('differs')} differ, ${count('skipped')} skipped`,
  ]
}
