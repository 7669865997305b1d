// SPDX-License-Identifier: MIT

import type { ByteString } from '../bytes.js'
import type { FileDiff, Hunk } from './diff.js'

/** Why a hunk has no place in a file. */
export interface HunkFailure {
  hunk: number
  why: string
}

/** A file's content, or null where there is no file. */
export type Content = ByteString | null

/** The file after the diff, or every hunk that failed. A null content means: no file any more. */
export type FileResult = { ok: true; content: Content } | { ok: false; failures: HunkFailure[] }

/** Where a hunk went in: the first line of each side as its header would name it. */
export interface Place {
  oldStart: number
  newStart: number
}

/**
 * Applies a diff to the content of one file. Context and removed lines must be there exactly (no fuzz, as `git am`);
 * their place may have moved, as long as the hunks keep their order. What was at the beginning or at the end of the file
 * must be there: see {@link anchorsOf}.
 */
export function applyToContent(diff: FileDiff, content: Content): FileResult {
  return place(diff, content, [])
}

/** The same, and where each hunk went in. Without places the diff does not apply. */
export function placesInContent(diff: FileDiff, content: Content): Place[] | null {
  const places: Place[] = []
  return place(diff, content, places).ok ? places : null
}

const tooMuch = 'the file to delete has more in it'

function place(diff: FileDiff, content: Content, places: Place[]): FileResult {
  if (diff.oldPath === null && content !== null) return failed(1, 'the file to create exists already')
  if (diff.oldPath !== null && content === null) return failed(1, 'the file is missing')

  const source = content === null || content === '' ? [] : content.split('\n')
  const endsWithNewline = content === null || content === '' || source.at(-1) === ''
  if (endsWithNewline) source.pop()
  const out: ByteString[] = []
  const failures: HunkFailure[] = []
  let done = 0
  let shift = 0
  let noNewline = !endsWithNewline
  for (const hunk of diff.hunks) {
    const old = side(hunk, '+')
    const expected = Math.max(hunk.oldStart - (old.length > 0 ? 1 : 0), 0) + shift
    const anchors = anchorsOf(hunk)
    const at = find(source, old, expected, done, anchors)
    if (at < 0) {
      const elsewhere = find(source, old, expected, done, { first: false, last: false })
      const why =
        elsewhere < 0
          ? explain(source, old, expected, done)
          : diff.newPath === null
            ? tooMuch
            : explainAnchor(anchors, elsewhere)
      failures.push({ hunk: hunk.number, why })
      continue
    }
    shift += at - expected
    out.push(...source.slice(done, at))
    const added = side(hunk, '-')
    places.push({
      oldStart: at + (old.length > 0 ? 1 : 0),
      newStart: out.length + (added.length > 0 ? 1 : 0),
    })
    out.push(...added)
    done = at + old.length
    if (done === source.length) {
      if (hunk.oldNoNewline === endsWithNewline && source.length > 0)
        failures.push({ hunk: hunk.number, why: 'the newline at the end of the file differs' })
      noNewline = hunk.newNoNewline
    }
  }
  if (failures.length > 0) return { ok: false, failures }
  out.push(...source.slice(done))
  if (diff.newPath === null) return out.length > 0 ? failed(1, tooMuch) : { ok: true, content: null }
  return { ok: true, content: out.length === 0 ? '' : out.join('\n') + (noNewline ? '' : '\n') }
}

/** The lines of a hunk without those of one kind: its old side without '+', its new side without '-'. */
function side(hunk: Hunk, without: '+' | '-'): ByteString[] {
  return hunk.lines.filter((line) => line[0] !== without).map((line) => line.slice(1))
}

/** Where in a file a hunk must be, as `git apply` has it. */
interface Anchors {
  /** It begins with line 1. */
  first: boolean
  /** There is no context after its last change: the file ended there. */
  last: boolean
}

function anchorsOf(hunk: Hunk): Anchors {
  return { first: hunk.oldStart <= 1, last: !hunk.lines.at(-1)?.startsWith(' ') }
}

/** The place nearest to `expected`, not before `from`, where all lines stand; -1 if there is none. */
function find(
  source: ByteString[],
  wanted: ByteString[],
  expected: number,
  from: number,
  anchors: Anchors,
): number {
  const final = source.length - wanted.length
  const lowest = anchors.last ? Math.max(from, final) : from
  const highest = anchors.first ? Math.min(final, 0) : final
  const reach = Math.max(expected - lowest, highest - expected)
  for (let distance = 0; distance <= reach; distance++) {
    for (const place of distance === 0 ? [expected] : [expected + distance, expected - distance]) {
      if (place >= lowest && place <= highest && matches(source, wanted, place)) return place
    }
  }
  return -1
}

function explainAnchor({ first }: Anchors, at: number): string {
  return `found at line ${at + 1}, the patch expects it at the ${first ? 'beginning' : 'end'} of the file`
}

function matches(source: ByteString[], wanted: ByteString[], place: number): boolean {
  for (let i = 0; i < wanted.length; i++) if (source[place + i] !== wanted[i]) return false
  return true
}

/** Where most of the lines would have matched, and the first that does not. */
function explain(source: ByteString[], wanted: ByteString[], expected: number, from: number): string {
  let best = -1
  let bestCount = 0
  for (let place = from; place < source.length; place++) {
    let count = 0
    for (let i = 0; i < wanted.length; i++) if (source[place + i] === wanted[i]) count++
    const nearer = Math.abs(place - expected) < Math.abs(best - expected)
    if (count > bestCount || (count === bestCount && count > 0 && nearer)) {
      best = place
      bestCount = count
    }
  }
  if (bestCount * 2 < wanted.length) return `nothing like it in the file (expected near line ${expected + 1})`
  const i = wanted.findIndex((line, index) => source[best + index] !== line)
  const found = source[best + i]
  const there = found === undefined ? 'the end of the file' : `"${found}"`
  return `line ${best + i + 1} is ${there}, the patch expects "${wanted[i]}"`
}

function failed(hunk: number, why: string): FileResult {
  return { ok: false, failures: [{ hunk, why }] }
}
