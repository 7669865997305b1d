// SPDX-License-Identifier: MIT

/** Looks through an overlay that say what is wrong, and changes to layers. All synchronous, all with byte paths. */
import {
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs'
import type { Verdict } from '../fixture/eventually.js'

const code = (error: unknown) => (error as NodeJS.ErrnoException).code ?? String(error)
const show = (path: Buffer) => JSON.stringify(path.toString('latin1').split('/').slice(4).join('/'))

/** The first thing that is wrong. */
export function first(...verdicts: Verdict[]): Verdict {
  return verdicts.find((verdict) => verdict !== null) ?? null
}

/** Names in a directory as byte strings, sorted. */
export function names(path: Buffer): string[] {
  return readdirSync(path, { encoding: 'buffer' })
    .map((name) => name.toString('latin1'))
    .sort()
}

/** What a lookup of the path says: an errno's name, or the type. */
export function look(path: Buffer): string {
  try {
    const stat = lstatSync(path)
    if (stat.isDirectory()) return 'directory'
    if (stat.isSymbolicLink()) return 'symlink'
    return stat.isFile() ? 'file' : 'other'
  } catch (error) {
    return code(error)
  }
}

export function is(path: Buffer, expected: string): Verdict {
  const seen = look(path)
  return seen === expected ? null : `${show(path)} is ${seen}, not ${expected}`
}

export const absent = (path: Buffer) => is(path, 'ENOENT')

export function holds(path: Buffer, content: string): Verdict {
  try {
    const seen = readFileSync(path, 'latin1')
    return seen === content
      ? null
      : `${show(path)} has ${JSON.stringify(seen)}, not ${JSON.stringify(content)}`
  } catch (error) {
    return `reading ${show(path)}: ${code(error)}`
  }
}

/** The directory has exactly these names. */
export function lists(path: Buffer, expected: string[]): Verdict {
  try {
    const seen = names(path)
    return sameNames(seen, expected)
      ? null
      : `${show(path)} lists ${JSON.stringify(seen)}, not ${JSON.stringify(expected)}`
  } catch (error) {
    return `listing ${show(path)}: ${code(error)}`
  }
}

export function sameNames(seen: string[], expected: string[]): boolean {
  return JSON.stringify([...seen].sort()) === JSON.stringify([...expected].sort())
}

/** The directory lists the one names and not the others, whatever else it has. */
export function listsSome(path: Buffer, present: string[], missing: string[] = []): Verdict {
  try {
    return namesSome(names(path), present, missing, show(path))
  } catch (error) {
    return `listing ${show(path)}: ${code(error)}`
  }
}

export function namesSome(seen: string[], present: string[], missing: string[], where: string): Verdict {
  const lacks = present.find((name) => !seen.includes(name))
  if (lacks !== undefined) return `${where} does not list ${JSON.stringify(lacks)}`
  const extra = missing.find((name) => seen.includes(name))
  return extra === undefined ? null : `${where} still lists ${JSON.stringify(extra)}`
}

export function mode(path: Buffer, expected: number): Verdict {
  const seen = statSync(path).mode & 0o7777
  return seen === expected ? null : `${show(path)} has mode ${seen.toString(8)}, not ${expected.toString(8)}`
}

/** Looks at a path, whatever the answer: fills the cache, also with "there is nothing". */
export function touch(...paths: Buffer[]): void {
  for (const path of paths) {
    const seen = look(path)
    if (seen === 'directory') names(path)
    else if (seen === 'file') readFileSync(path)
  }
}

export function put(path: Buffer, content: string): void {
  writeFileSync(path, content)
}

export function directory(...paths: Buffer[]): void {
  for (const path of paths) mkdirSync(path, { recursive: true })
}

let temporary = 0

/** As editors and git do: written beside, then renamed over. */
export function replace(path: Buffer, content: string): void {
  const beside = Buffer.concat([
    path.subarray(0, path.lastIndexOf(0x2f)),
    Buffer.from(`/.new-${process.pid}-${++temporary}`),
  ])
  writeFileSync(beside, content)
  renameSync(beside, path)
}

export const remove = unlinkSync
export const rename = renameSync
