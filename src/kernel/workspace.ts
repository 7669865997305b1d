// SPDX-License-Identifier: MIT

import { constants, type Stats } from 'node:fs'
import { chmod, lstat, mkdir, readFile, rename, rm, unlink, writeFile } from 'node:fs/promises'
import { type ByteString, display, toBuffer } from '../bytes.js'
import { LowerwatchError } from '../errors.js'
import type { FileDiff } from './diff.js'
import { applyToContent, type Content } from './hunks.js'

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
    private readonly original: Map<ByteString, Content> = new Map(),
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
    if (known !== undefined) return known
    let content: Content = null
    try {
      const stat = await lstat(this.absolute(path))
      // A link would take the write somewhere else.
      if (!stat.isFile()) throw new LowerwatchError('KERNEL', `${display(path)} is not a regular file`)
      content = await readFile(this.absolute(path), 'latin1')
    } catch (error) {
      if (!isCode(error, 'ENOENT', 'ENOTDIR')) throw error
    }
    this.original.set(path, content)
    return content
  }

  /** Paths that differ from the tree on disk. */
  changed(): ByteString[] {
    return [...this.changes.keys()].filter(
      (path) => this.changes.get(path)!.content !== this.original.get(path),
    )
  }

  /**
   * Writes every change, or none: new contents are prepared beside the files first, then renamed over them. If a rename
   * fails, what was replaced before is put back.
   */
  async commit(): Promise<void> {
    const suffix = `.lowerwatch-${process.pid}`
    const paths = this.changed()
    const prepared: ByteString[] = []
    const replaced: ByteString[] = []
    try {
      for (const path of paths) {
        const { content, mode } = this.changes.get(path)!
        if (content === null) continue
        await mkdir(this.absolute(parentOf(path)), { recursive: true })
        prepared.push(path)
        await this.prepare(path, suffix, content, mode)
      }
      for (const path of paths) {
        if (this.changes.get(path)!.content === null) await unlink(this.absolute(path))
        else await rename(this.absolute(path + suffix), this.absolute(path))
        replaced.push(path)
      }
    } catch (error) {
      for (const path of replaced.reverse()) {
        const content = this.original.get(path) ?? null
        if (content === null) await rm(this.absolute(path), { force: true })
        else await writeFile(this.absolute(path), content, 'latin1')
      }
      throw error
    } finally {
      for (const path of prepared) await rm(this.absolute(path + suffix), { force: true })
    }
    for (const path of paths) this.original.set(path, this.changes.get(path)!.content)
  }

  private async prepare(path: ByteString, suffix: string, content: ByteString, mode: number): Promise<void> {
    const target = this.absolute(path + suffix)
    let old: Stats | null = null
    try {
      old = await lstat(this.absolute(path))
    } catch (error) {
      if (!isCode(error, 'ENOENT')) throw error
    }
    await writeFile(target, content, { encoding: 'latin1', flag: 'wx' })
    const bits = old ? old.mode & 0o7777 : mode & 0o111 ? 0o755 : 0o644
    await chmod(target, bits & ~constants.S_IFMT)
  }

  private absolute(path: ByteString): Buffer {
    return Buffer.concat([Buffer.from(`${this.root}/`), toBuffer(path)])
  }
}

function parentOf(path: ByteString): ByteString {
  return path.includes('/') ? path.slice(0, path.lastIndexOf('/')) : '.'
}

/** True for an error of the file system with one of these codes. */
export function isCode(error: unknown, ...codes: string[]): boolean {
  return error instanceof Error && 'code' in error && codes.includes(String(error.code))
}
