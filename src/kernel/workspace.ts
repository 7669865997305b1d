// SPDX-License-Identifier: MIT

import type { ByteString } from '../bytes.js'
import type { FileDiff } from './diff.js'
import { applyToContent, type Content } from './hunks.js'
import { writeAll } from './transaction.js'
import { type Found, TreeFiles } from './tree-files.js'

/** A hunk that has no place in a tree. */
export interface Conflict {
  file: ByteString
  hunk: number
  why: string
}

/**
 * A tree with changes on top that only exist in memory, until {@link Workspace.commit} writes all of them or none.
 */
export class Workspace {
  private readonly changes = new Map<ByteString, { content: Content; mode: number }>()

  /**
   * @param root directory of the tree (text, as typed)
   * @param original files read before, shared between workspaces on the same tree
   */
  constructor(
    readonly root: string,
    private readonly original: Map<ByteString, Found> = new Map(),
  ) {}

  /** A copy, to try something that may fail. */
  fork(): Workspace {
    const copy = new Workspace(this.root, this.original)
    for (const [path, change] of this.changes) copy.changes.set(path, change)
    return copy
  }

  /** Applies one patch, or changes nothing and says every conflict. */
  async apply(diffs: FileDiff[]): Promise<Conflict[]> {
    const conflicts: Conflict[] = []
    const results: { path: ByteString; content: Content; mode: number }[] = []
    for (const diff of diffs) {
      const path = (diff.newPath ?? diff.oldPath)!
      const result = applyToContent(diff, await this.read(path))
      if (result.ok) results.push({ path, content: result.content, mode: diff.newMode })
      else for (const failure of result.failures) conflicts.push({ file: path, ...failure })
    }
    if (conflicts.length === 0) for (const r of results) this.changes.set(r.path, r)
    return conflicts
  }

  /** Replaces a whole file. */
  async put(path: ByteString, content: ByteString): Promise<void> {
    await this.read(path)
    this.changes.set(path, { content, mode: 0 })
  }

  async read(path: ByteString): Promise<Content> {
    const change = this.changes.get(path)
    if (change) return change.content
    const known = this.original.get(path)
    if (known !== undefined) return contentOf(known)
    const found = await TreeFiles.with(this.root, (files) => files.read(path))
    this.original.set(path, found)
    return contentOf(found)
  }

  /** Paths that differ from the tree on disk. */
  changed(): ByteString[] {
    return [...this.changes.keys()].filter(
      (path) => this.changes.get(path)!.content !== contentOf(this.original.get(path)!),
    )
  }

  /**
   * Writes every change, or none.
   *
   * @throws LowerwatchError KERNEL when somebody else changed one of the files meanwhile, or another process is at it
   */
  async commit(): Promise<void> {
    const writes = this.changed().map((path) => {
      const { content, mode } = this.changes.get(path)!
      return { path, content, executable: (mode & 0o111) !== 0, was: this.original.get(path)?.stat ?? null }
    })
    if (writes.length > 0) await writeAll(this.root, writes)
    for (const { path } of writes) this.original.delete(path)
    this.changes.clear()
  }
}

function contentOf(found: Found): Content {
  return found === null ? null : found.content
}

/** True for an error of the file system with one of these codes. */
export function isCode(error: unknown, ...codes: string[]): boolean {
  return error instanceof Error && 'code' in error && codes.includes(String(error.code))
}
