// SPDX-License-Identifier: MIT

import * as v from 'valibot'
import { type ByteString, display } from '../bytes.js'
import { LowerwatchError } from '../errors.js'
import type { Stat } from '../native.js'
import { withLock } from './lock.js'
import { holdSignals } from './signals.js'
import { changed, isSame, TreeFiles } from './tree-files.js'

/** What becomes of one file. */
export interface Write {
  path: ByteString
  /** Null: no file any more. */
  content: ByteString | null
  /** Of a new file. One that is there keeps its mode and its owner. */
  executable: boolean
  /** The file when it was read; null when there was none. */
  was: Stat | null
}

/**
 * What a {@link writeAll} that was killed had begun; in the tree while it runs. `preparing`: new contents are made beside the
 * files. `exchanging`: all of them were there, and take their places. `done`: all of them have, what was aside goes.
 */
const journalSchema = v.object({
  state: v.picklist(['preparing', 'exchanging', 'done']),
  files: v.array(v.object({ path: v.string(), existed: v.boolean() })),
  /** That were not there, from the top. */
  directories: v.array(v.string()),
})
type Journal = v.InferOutput<typeof journalSchema>

const journalName = '.lowerwatch-apply'
const newName = (path: ByteString) => `${path}${journalName}-new`
const oldName = (path: ByteString) => `${path}${journalName}-old`

/**
 * Writes all of these files, or none. New contents are made beside the files; then each file is moved aside, if it is still
 * what was read, and the new one takes its place. When a step fails, or a signal comes, all are taken back. What a process
 * that is killed leaves half done is taken back by {@link restore}.
 *
 * @throws LowerwatchError KERNEL when a file is not what was read, or an interrupted run has not been taken back
 */
export async function writeAll(root: string, writes: Write[]): Promise<void> {
  const files = writes.map(({ path, was }) => ({ path, existed: was !== null }))
  await locked(root, async (tree, abort) => {
    await refuseHalf(tree, root)
    // Before anything is ours to remove
    for (const { path } of writes) await refuseTaken(tree, path)
    const directories = await directoriesFor(tree, writes)
    let journal: Journal = { state: 'preparing', files, directories }
    const enter = async (state: Journal['state']) => {
      journal = { ...journal, state }
      await writeJournal(tree, journal)
    }
    try {
      await enter('preparing')
      for (const directory of directories) await tree.makeDirectory(directory)
      for (const write of writes) await prepare(tree, write, abort)
      await enter('exchanging')
      for (const write of writes) await exchange(tree, write, abort)
      await enter('done')
    } catch (error) {
      await finish(tree, journal, error)
      throw error
    }
    await finish(tree, journal, null)
  })
}

/**
 * Takes back what a killed {@link writeAll} left in a tree, or brings it to its end when all of it is there.
 *
 * @returns how many files it was about; 0 when there was nothing to do
 */
export async function restore(root: string): Promise<number> {
  if (await TreeFiles.with(root, isWhole)) return 0
  return locked(root, async (tree) => {
    const journal = await readJournal(tree)
    if (journal !== null) await finish(tree, journal, null)
    return journal?.files.length ?? 0
  })
}

/** @throws LowerwatchError KERNEL when a killed run left the tree half changed: what is found in it says nothing. */
export async function requireWhole(root: string): Promise<void> {
  await TreeFiles.with(root, (tree) => refuseHalf(tree, root))
}

const isWhole = async (tree: TreeFiles) => (await tree.stat(journalName)) === null

async function refuseHalf(tree: TreeFiles, root: string): Promise<void> {
  if (await isWhole(tree)) return
  throw new LowerwatchError('KERNEL', `${root} was left half changed by \`kernel apply\``, {
    hint: 'run that again: it takes back what was begun',
  })
}

function locked<T>(root: string, work: (tree: TreeFiles, abort: AbortSignal) => Promise<T>): Promise<T> {
  const waiting = () => void process.stderr.write(`another process changes ${root}, waiting\n`)
  const path = `${root}/${journalName}.lock`
  return holdSignals((abort) =>
    withLock(path, waiting, () => TreeFiles.with(root, (tree) => work(tree, abort)), abort),
  )
}

async function refuseTaken(tree: TreeFiles, path: ByteString): Promise<void> {
  for (const name of [oldName(path), newName(path)])
    if ((await tree.stat(name)) !== null)
      throw new LowerwatchError('KERNEL', `${display(name)} is in the way`)
}

async function directoriesFor(tree: TreeFiles, writes: Write[]): Promise<ByteString[]> {
  const missing = new Set<ByteString>()
  for (const { path, content } of writes)
    for (const directory of content === null ? [] : await tree.missingParents(path)) missing.add(directory)
  return [...missing]
}

async function prepare(tree: TreeFiles, write: Write, abort: AbortSignal): Promise<void> {
  abort.throwIfAborted()
  const { path, content, executable, was } = write
  if (content === null) return
  const owner = was ?? { ...(await tree.ownerFor(path)), mode: executable ? 0o755 : 0o644 }
  await tree.create(newName(path), content, owner)
}

async function exchange(tree: TreeFiles, { path, content, was }: Write, abort: AbortSignal): Promise<void> {
  abort.throwIfAborted()
  if (was !== null) {
    await requireSame(tree, path, path, was)
    await tree.move(path, oldName(path))
    // Somebody may have been faster.
    await requireSame(tree, oldName(path), path, was)
  }
  if (content !== null) await tree.move(newName(path), path)
}

async function requireSame(tree: TreeFiles, name: ByteString, path: ByteString, was: Stat): Promise<void> {
  const now = await tree.stat(name)
  if (now === null || !isSame(now, was)) throw changed(path)
}

/** Brings a tree to one of its two ends. Each step is for itself: one that fails must not keep the others from theirs. */
async function finish(tree: TreeFiles, journal: Journal, cause: unknown): Promise<void> {
  const failures: string[] = []
  const attempt = async (path: ByteString, step: () => Promise<void>) => {
    try {
      await step()
    } catch (error) {
      failures.push(`${display(path)} (${error instanceof Error ? error.message : error})`)
    }
  }
  for (const file of [...journal.files].reverse()) {
    await attempt(file.path, async () => {
      if (journal.state === 'exchanging') await putBack(tree, file)
      if (journal.state === 'done') await tree.remove(oldName(file.path))
      await tree.remove(newName(file.path))
    })
  }
  for (const directory of journal.state === 'done' ? [] : [...journal.directories].reverse())
    await attempt(directory, () => tree.removeDirectory(directory))
  await attempt(journalName, () => tree.remove(newName(journalName)))
  if (failures.length === 0) return tree.remove(journalName)
  throw new LowerwatchError('KERNEL', `the tree is half changed: ${failures.join(', ')}`, {
    hint: 'mend that and run `kernel apply` again, which does the rest',
    cause,
  })
}

async function putBack(tree: TreeFiles, { path, existed }: Journal['files'][number]): Promise<void> {
  const there = async (name: ByteString) => (await tree.stat(name)) !== null
  if (existed) {
    if (await there(oldName(path))) await tree.replace(oldName(path), path)
  } else if (!(await there(newName(path)))) {
    // It took its place. As long as it has not, what has that name, if anything, is somebody else's.
    await tree.remove(path)
  }
}

async function writeJournal(tree: TreeFiles, journal: Journal): Promise<void> {
  const owner = { ...(await tree.ownerFor(journalName)), mode: 0o600 }
  // Of a process that was killed here: this one has the lock.
  await tree.remove(newName(journalName))
  await tree.create(newName(journalName), JSON.stringify(journal), owner)
  await tree.replace(newName(journalName), journalName)
}

async function readJournal(tree: TreeFiles): Promise<Journal | null> {
  const found = await tree.read(journalName)
  if (found === null) return null
  try {
    return v.parse(journalSchema, JSON.parse(found.content))
  } catch (error) {
    throw new LowerwatchError('KERNEL', `${journalName} is not what \`kernel apply\` writes`, {
      cause: error,
    })
  }
}
