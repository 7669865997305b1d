// SPDX-License-Identifier: MIT

/**
 * What the random test does: changes in two lowers, changes and looks through the overlay. An operation may fail
 * (nothing there, something in the way); that too is the same for the same seed as long as the overlay is coherent.
 */
import {
  appendFileSync,
  chmodSync,
  chownSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import type { Actor } from '../fixture/actor.js'
import { inUserNamespace, unprivileged } from '../fixture/environment.js'
import type { Overlay } from '../fixture/overlay.js'
import type { Seeded } from './seeded.js'

export interface Stage {
  random: Seeded
  overlay: Overlay
  changer: Actor
  /** Counts attempts, so that every content written is another one. */
  count: number
  /** Operations that did what they say. */
  done: number
  /** Drawn before the operation, so that a failing one takes as many numbers as another. */
  choice: number
}

interface Operation {
  name: string
  weight: number
  /** Paths that it takes. */
  paths: 1 | 2
  /** The first path is to be made. */
  makes?: boolean
  run(stage: Stage, at: (path: string) => Buffer, one: string, other: string): unknown
}

const names = ['a', 'b', 'c', 'd', '\xff\n"']

/**
 * One to three names deep, all but the last mostly of what is there in the layer; the last too, unless it is to be
 * made. Takes the same count of numbers whatever is there, so that a run which differs once does not go another
 * way altogether.
 */
export function anyPath(random: Seeded, at: (path: string) => Buffer, last: 'known' | 'any'): string {
  const depth = 1 + random.below(3)
  const draws = Array.from({ length: 3 }, () => ({ known: random.next() < 0.85, which: random.below(1000) }))
  const path: string[] = []
  for (const { known, which } of draws.slice(0, depth)) {
    const there = namesIn(at(path.join('/')))
    const isLast = path.length === depth - 1 || there.length === 0
    const choose = known && there.length > 0 && (last === 'known' || !isLast) ? there : names
    path.push(choose[which % choose.length] ?? 'a')
    if (isLast) break
  }
  return path.join('/')
}

function namesIn(directory: Buffer): string[] {
  try {
    return readdirSync(directory, 'latin1').sort()
  } catch {
    // No directory: then a name that is not there is as good as any.
    return []
  }
}

const mode = ({ choice }: Stage) => [0o600, 0o644, 0o700, 0o755, 0o000][choice % 5] ?? 0o644

function replace(at: (path: string) => Buffer, path: string, content: string): void {
  const slash = path.lastIndexOf('/')
  const beside = at(`${path.slice(0, slash + 1)}.beside`)
  writeFileSync(beside, content)
  try {
    renameSync(beside, at(path))
  } catch (error) {
    unlinkSync(beside)
    throw error
  }
}

/** In one of the lowers, behind the overlay's back. */
const below: Operation[] = [
  {
    name: 'create',
    weight: 8,
    paths: 1,
    run: (s, at, p) => writeFileSync(at(p), `${s.count}`, { flag: 'wx' }),
  },
  { name: 'mkdir', makes: true, weight: 8, paths: 1, run: (_, at, p) => mkdirSync(at(p)) },
  {
    name: 'mkdir -p',
    makes: true,
    weight: 8,
    paths: 1,
    run: (_, at, p) => mkdirSync(at(p), { recursive: true }),
  },
  { name: 'write', weight: 3, paths: 1, run: (s, at, p) => appendFileSync(at(p), `+${s.count}`) },
  { name: 'replace', weight: 8, paths: 1, run: (s, at, p) => replace(at, p, `${s.count}`) },
  { name: 'rename', weight: 7, paths: 2, run: (_, at, p, q) => renameSync(at(p), at(q)) },
  { name: 'exchange', weight: 3, paths: 2, run: (s, at, p, q) => s.changer.exchange(at(p), at(q)) },
  { name: 'unlink', weight: 5, paths: 1, run: (_, at, p) => unlinkSync(at(p)) },
  { name: 'rmdir', weight: 3, paths: 1, run: (_, at, p) => rmdirSync(at(p)) },
  { name: 'rm -r', weight: 2, paths: 1, run: (_, at, p) => rmSync(at(p), { recursive: true }) },
  {
    name: 'chmod',
    weight: 4,
    paths: 1,
    run: (s, at, p) => chmodSync(existing(at(p)), mode(s)),
  },
  { name: 'chown', weight: 2, paths: 1, run: (s, at, p) => chown(s, existing(at(p))) },
  {
    name: 'symlink',
    weight: 3,
    paths: 2,
    run: (_, at, p, q) => symlinkSync(Buffer.from(q, 'latin1'), at(p)),
  },
  { name: 'link', weight: 3, paths: 2, run: (_, at, p, q) => linkSync(at(p), at(q)) },
  { name: 'whiteout', makes: true, weight: 3, paths: 1, run: (s, at, p) => s.changer.whiteout(at(p)) },
  {
    name: 'opaque',
    weight: 2,
    paths: 1,
    run: (s, at, p) => s.changer.setXattr(directory(at(p)), `${s.overlay.xattrPrefix}opaque`, 'y'),
  },
  {
    name: 'not opaque',
    weight: 1,
    paths: 1,
    run: (s, at, p) => s.changer.removeXattr(at(p), `${s.overlay.xattrPrefix}opaque`),
  },
  { name: 'touch', weight: 2, paths: 1, run: (s, at, p) => utimesSync(existing(at(p)), s.count, s.count) },
]

/** Through the overlay, as its users do. */
const through: Operation[] = [
  {
    name: 'create',
    weight: 4,
    paths: 1,
    run: (s, at, p) => writeFileSync(at(p), `${s.count}`, { flag: 'wx' }),
  },
  { name: 'write', weight: 4, paths: 1, run: (s, at, p) => appendFileSync(at(p), `+${s.count}`) },
  { name: 'unlink', weight: 4, paths: 1, run: (_, at, p) => unlinkSync(at(p)) },
  { name: 'mkdir', makes: true, weight: 3, paths: 1, run: (_, at, p) => mkdirSync(at(p)) },
  { name: 'rmdir', weight: 1, paths: 1, run: (_, at, p) => rmdirSync(at(p)) },
  { name: 'rm -r', weight: 1, paths: 1, run: (_, at, p) => rmSync(at(p), { recursive: true }) },
  { name: 'rename', weight: 3, paths: 2, run: (_, at, p, q) => renameSync(at(p), at(q)) },
  {
    name: 'chmod',
    weight: 1,
    paths: 1,
    run: (s, at, p) => chmodSync(existing(at(p)), mode(s)),
  },
  { name: 'stat', weight: 14, paths: 1, run: (_, at, p) => lstatSync(at(p)) },
  { name: 'list', weight: 8, paths: 1, run: (_, at, p) => readdirSync(at(p)) },
  { name: 'list root', weight: 2, paths: 1, run: (_, at) => readdirSync(at('')) },
  { name: 'read', weight: 8, paths: 1, run: (_, at, p) => readFileSync(existing(at(p))) },
]

const layers: {
  name: string
  weight: number
  operations: Operation[]
  at: (o: Overlay, p: string) => Buffer
}[] = [
  { name: 'l1', weight: 3, operations: below, at: (overlay, path) => overlay.low(1, path) },
  { name: 'l2', weight: 3, operations: below, at: (overlay, path) => overlay.low(2, path) },
  { name: 'overlay', weight: 5, operations: through, at: (overlay, path) => overlay.at(path) },
]

/** Where paths for the overlay come from: not from looking at the overlay, which would change what it has cached. */
const sources = [
  (overlay: Overlay, path: string) => overlay.low(1, path),
  (overlay: Overlay, path: string) => overlay.low(2, path),
  (overlay: Overlay, path: string) => overlay.up(path),
]

/** A symlink would lead to the file behind it, which may be in no layer; a whiteout may not be opened. */
function existing(path: Buffer): Buffer {
  const stat = lstatSync(path)
  if (stat.isFile() || stat.isDirectory()) return path
  throw Object.assign(new Error('neither a file nor a directory'), { code: 'ENOTSUP' })
}

function directory(path: Buffer): Buffer {
  if (lstatSync(path).isDirectory()) return path
  throw Object.assign(new Error('no directory'), { code: 'ENOTDIR' })
}

function chown({ choice }: Stage, path: Buffer): void {
  const id = choice % 2 === 0 || inUserNamespace ? 0 : unprivileged.uid
  chownSync(path, id, id)
}

/** Runs one operation and returns the line for the log. */
export async function operate(stage: Stage): Promise<string> {
  const { random, overlay } = stage
  const layer = random.weighted(layers)
  const operation = random.weighted(layer.operations)
  const drawn = random.pick(sources)
  const source = layer.name === 'overlay' ? drawn : layer.at
  const at = (path: string) => source(overlay, path)
  const one = anyPath(random, at, operation.makes === true ? 'any' : 'known')
  const other = anyPath(random, at, 'any')
  stage.choice = random.below(1000)
  stage.count++
  const given = JSON.stringify(operation.paths === 1 ? [one] : [one, other])
  const line = `${stage.count} ${layer.name} ${operation.name} ${given}`
  try {
    await operation.run(stage, (path) => layer.at(overlay, path), one, other)
    stage.done++
    return line
  } catch (error) {
    return `${line}: ${(error as NodeJS.ErrnoException).code ?? error}`
  }
}
