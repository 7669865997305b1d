// SPDX-License-Identifier: MIT

import { createHash } from 'node:crypto'
import { constants } from 'node:fs'
import { lstat, open, readdir } from 'node:fs/promises'
import { LowerwatchError } from '../errors.js'
import { isCode } from './workspace.js'

/** An unpacked kernel source. */
export interface Tree {
  root: string
  /** For example `7.2.13`, with the tree's EXTRAVERSION. */
  release: string
  /** major.minor, what the series are kept by. */
  version: string
}

/** @throws LowerwatchError USAGE when the directory is no kernel source. */
export async function openTree(root: string): Promise<Tree> {
  let makefile: string
  try {
    makefile = await headOf(`${root}/Makefile`)
  } catch (error) {
    if (!isCode(error, 'ENOENT', 'ENOTDIR', 'ELOOP', 'ENXIO', 'EACCES')) throw error
    throw notATree(root, error)
  }
  const field = (name: string) => new RegExp(`^${name} *=[ \\t]*(.*)$`, 'm').exec(makefile)?.[1]?.trim() ?? ''
  const major = field('VERSION')
  const minor = field('PATCHLEVEL')
  const sub = field('SUBLEVEL')
  const extra = field('EXTRAVERSION')
  // A release is printed, and compared: nothing that a terminal would take for a command.
  if (![major, minor, sub || '0'].every((part) => /^\d+$/.test(part)) || !/^[\w.+~-]*$/.test(extra))
    throw notATree(root)
  return { root, release: `${major}.${minor}${sub ? `.${sub}` : ''}${extra}`, version: `${major}.${minor}` }
}

/** The first 4 kB of a file; nothing of what is no regular file, which need not have an end, nor anybody who writes to it. */
async function headOf(path: string): Promise<string> {
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK)
  try {
    if (!(await file.stat()).isFile()) return ''
    const { buffer, bytesRead } = await file.read(Buffer.alloc(4096))
    return buffer.toString('latin1', 0, bytesRead)
  } finally {
    await file.close()
  }
}

function notATree(root: string, cause?: unknown): LowerwatchError {
  return new LowerwatchError('USAGE', `${root} is not an unpacked kernel source`, {
    hint: 'name its top directory with --tree, or run `lowerwatch kernel fetch VERSION`',
    cause,
  })
}

/**
 * What a tree is, for build keys: path, size, mode and modification time of every file. Contents are not read (1.5 GB);
 * an edit changes the time.
 */
export async function identifyTree(root: string): Promise<string> {
  const hash = createHash('sha256')
  const walk = async (directory: string): Promise<void> => {
    const entries = await readdir(`${root}/${directory}`, { withFileTypes: true, encoding: 'buffer' })
    entries.sort((a, b) => Buffer.compare(a.name, b.name))
    for (const entry of entries) {
      const name = entry.name.toString('latin1')
      if (name === '.git') continue
      const path = directory === '' ? name : `${directory}/${name}`
      if (entry.isDirectory()) {
        await walk(path)
      } else {
        const stat = await lstat(Buffer.from(`${root}/${path}`, 'latin1'), { bigint: true })
        hash.update(`${path}\0${stat.size}\0${stat.mode}\0${stat.mtimeNs}\n`)
      }
    }
  }
  await walk('')
  return hash.digest('hex')
}
