// SPDX-License-Identifier: MIT

import type { ByteString } from '../bytes.js'
import { LowerwatchError } from '../errors.js'

/** One hunk of a unified diff. Lines keep their order; the first character of each says what it is. */
export interface Hunk {
  /** 1-based number in its file, as a person counts. */
  number: number
  /** First line in the old file, 1-based; 0 when the old file is empty. */
  oldStart: number
  newStart: number
  /** ' ' context, '-' old only, '+' new only; the rest is the line without its newline. */
  lines: ByteString[]
  /** The old (new) side ends without a newline: "\ No newline at end of file". */
  oldNoNewline: boolean
  newNoNewline: boolean
}

/** What a patch does to one file. A path of null is /dev/null: the file is created or deleted. */
export interface FileDiff {
  oldPath: ByteString | null
  newPath: ByteString | null
  /** Mode of a created file, for example 0o100755; 0 when the patch does not say. */
  newMode: number
  hunks: Hunk[]
}

/**
 * The diffs in a mailbox patch or a plain diff, as git writes them (`--- a/path`, `+++ b/path`).
 *
 * @throws LowerwatchError KERNEL for what this program does not apply: renames, mode changes and binary files,
 *   which would otherwise be dropped in silence.
 */
export function parseDiff(text: ByteString, name: string): FileDiff[] {
  return scanDiff(text, name).files
}

/** Where a diff's lines are that say a place or an identity, not a change: 0-based numbers of lines. */
export interface DiffMarks {
  /** `index <old>..<new>`; -1 where there is none. */
  index: number
  /** The `@@` line of each hunk. */
  hunks: number[]
}

/** {@link parseDiff}, with the marks of each file. */
export function scanDiff(text: ByteString, name: string): { files: FileDiff[]; marks: DiffMarks[] } {
  const lines = text.split('\n')
  const files: FileDiff[] = []
  const marks: DiffMarks[] = []
  let mode = 0
  let index = -1
  let at = 0
  while (at < lines.length) {
    const line = lines[at]!
    if (/^(rename|copy) (from|to) |^(old|new) mode |^GIT binary patch|^Binary files /.test(line))
      throw malformed(name, at, `unsupported: ${line}`)
    const created = /^new file mode (\d+)$/.exec(line)
    if (created) mode = Number.parseInt(created[1]!, 8)
    if (line.startsWith('diff --git ')) index = -1
    if (/^index [0-9a-f]+\.\.[0-9a-f]+/.test(line)) index = at
    if (line.startsWith('--- ') && lines[at + 1]?.startsWith('+++ ') && lines[at + 2]?.startsWith('@@ ')) {
      const file: FileDiff = {
        oldPath: stripPath(line.slice(4), name, at),
        newPath: stripPath(lines[at + 1]!.slice(4), name, at),
        newMode: mode,
        hunks: [],
      }
      mode = 0
      at += 2
      const hunks: number[] = []
      while (lines[at]?.startsWith('@@ ')) {
        hunks.push(at)
        at = parseHunk(lines, at, file, name)
      }
      files.push(file)
      marks.push({ index, hunks })
      index = -1
    } else {
      at++
    }
  }
  return { files, marks }
}

function parseHunk(lines: ByteString[], start: number, file: FileDiff, name: string): number {
  const header = /^@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@/.exec(lines[start]!)
  if (!header) throw malformed(name, start, 'not a hunk header')
  let oldLeft = Number(header[2] ?? 1)
  let newLeft = Number(header[4] ?? 1)
  const hunk: Hunk = {
    number: file.hunks.length + 1,
    oldStart: Number(header[1]),
    newStart: Number(header[3]),
    lines: [],
    oldNoNewline: false,
    newNoNewline: false,
  }
  let at = start + 1
  while (oldLeft > 0 || newLeft > 0 || lines[at]?.startsWith('\\')) {
    const line = lines[at]
    if (line === undefined) throw malformed(name, at, 'the hunk ends too early')
    const kind = line[0] ?? ' '
    if (kind === '\\') {
      const last = hunk.lines.at(-1)?.[0]
      if (last !== '+') hunk.oldNoNewline = true
      if (last !== '-') hunk.newNoNewline = true
    } else if (kind === ' ' || kind === '-' || kind === '+') {
      // Some mailers drop the blank of an empty context line.
      hunk.lines.push(line === '' ? ' ' : line)
      if (kind !== '+') oldLeft--
      if (kind !== '-') newLeft--
    } else {
      throw malformed(name, at, 'not a line of a hunk')
    }
    if (oldLeft < 0 || newLeft < 0) throw malformed(name, at, 'more lines than the hunk header says')
    at++
  }
  file.hunks.push(hunk)
  return at
}

/** The path without its a/ or b/, refused when it would leave the tree. */
function stripPath(field: ByteString, name: string, at: number): ByteString | null {
  const path = field.split('\t')[0]!
  if (path === '/dev/null') return null
  const stripped = path.slice(path.indexOf('/') + 1)
  const parts = stripped.split('/')
  if (!path.includes('/') || path.startsWith('/') || parts.some((p) => p === '' || p === '.' || p === '..'))
    throw malformed(name, at, `not a path below the tree: ${path}`)
  return stripped
}

function malformed(name: string, line: number, why: string): LowerwatchError {
  return new LowerwatchError('KERNEL', `${name}, line ${line + 1}: ${why}`)
}

/** The diff that takes this one back. */
export function reverseDiff(file: FileDiff): FileDiff {
  return {
    oldPath: file.newPath,
    newPath: file.oldPath,
    newMode: file.newMode,
    hunks: file.hunks.map((hunk) => ({
      number: hunk.number,
      oldStart: hunk.newStart,
      newStart: hunk.oldStart,
      oldNoNewline: hunk.newNoNewline,
      newNoNewline: hunk.oldNoNewline,
      lines: hunk.lines.map((line) =>
        line[0] === '-' ? `+${line.slice(1)}` : line[0] === '+' ? `-${line.slice(1)}` : line,
      ),
    })),
  }
}
