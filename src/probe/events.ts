// SPDX-License-Identifier: MIT

/** Events as people read them, and what a number of them says. */
import { type ByteString, display } from '../bytes.js'
import type { RawEvent } from './native.js'

/** inotify(7) and fanotify(7) share these bits; FAN_RENAME and the mount events are fanotify's alone. */
export const Bit = {
  MODIFY: 0x2,
  ATTRIB: 0x4,
  CLOSE_WRITE: 0x8,
  MOVED_FROM: 0x40,
  MOVED_TO: 0x80,
  CREATE: 0x100,
  DELETE: 0x200,
  DELETE_SELF: 0x400,
  MOVE_SELF: 0x800,
  UNMOUNT: 0x2000,
  OVERFLOW: 0x4000,
  IGNORED: 0x8000,
  RENAME: 0x10000000,
} as const

/** Only in groups with FAN_REPORT_MNT. */
const MountBit = { MNT_ATTACH: 0x1000000, MNT_DETACH: 0x2000000 } as const

export const FAN_ONDIR = 0x40000000
export const FAN_EVENT_ON_CHILD = 0x08000000
const isDirectory = 0x40000000

/** An event with the objects that the experiment knows by name. */
export interface SeenEvent {
  kinds: string[]
  directory: boolean
  /** The watched object, or the objects whose handles the event carries; '?' for one that is not known. */
  subjects: string[]
  name: string
}

export function kindsOf(mask: number): string[] {
  const bits: Record<string, number> = { ...Bit, ...MountBit }
  return Object.keys(bits).filter((kind) => (mask & bits[kind]!) !== 0)
}

/** @param labelOf - What a handle or a watch is called; null for something else on the file system. */
export function seenEvent(event: RawEvent, labelOf: (key: ByteString | number) => string | null): SeenEvent {
  const records = event.records ?? []
  const keys = event.records === undefined ? [event.watch ?? -1] : records.map((record) => record.handle)
  const name = event.name ?? records.find((record) => record.name !== '')?.name ?? ''
  return {
    kinds: kindsOf(event.mask),
    directory: (event.mask & isDirectory) !== 0,
    subjects: keys.map((key) => labelOf(key) ?? '?'),
    name: display(name === '.' ? '' : name),
  }
}

/** One line for `--events`. */
export function eventLine({ kinds, directory, subjects, name }: SeenEvent): string {
  return `${kinds.join('|')}${directory ? '|DIR' : ''} ${subjects.join(' ')}${name === '' ? '' : ` ${name}`}`
}

/**
 * What was told, without counts and order: `nothing`, `CREATE`, `MOVED_FROM MOVED_TO`.
 *
 * @param names - Names that came or went: `(1 of 5 names)` when not all of them were told
 */
export function summary(events: SeenEvent[], names: string[] | null): string {
  const kinds = [...new Set(events.flatMap((event) => event.kinds))]
  if (kinds.length === 0) return 'nothing'
  const order = Object.keys(Bit).concat(Object.keys(MountBit))
  const text = kinds.sort((a, b) => order.indexOf(a) - order.indexOf(b)).join(' ')
  const named = events
    .filter((event) => event.kinds.some((kind) => nameKinds.has(kind)))
    .map((event) => event.name)
    .filter((name) => name !== '')
  if (names === null || named.length === 0) return text
  const told = names.filter((name) => named.includes(name)).length
  if (told < names.length) return `${text} (${told === 0 ? 'other' : 'not all'} names)`
  return twice(events) ? `${text} (twice)` : text
}

const nameKinds = new Set(['CREATE', 'DELETE', 'MOVED_FROM', 'MOVED_TO', 'RENAME'])

function twice(events: SeenEvent[]): boolean {
  const keys = events.flatMap((event) =>
    event.kinds.map((kind) => `${kind}/${event.name}/${event.subjects[0]}`),
  )
  return new Set(keys).size < keys.length
}
