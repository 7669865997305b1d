// SPDX-License-Identifier: MIT

import { execFileSync } from 'node:child_process'
import { lstatSync, readFileSync, readlinkSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'

interface Entry {
  mode: number
  /** Of a regular file: its content, or the file of this machine that has it; of a link: its target. */
  data: Buffer | { file: string }
  mtime: number
}

const kind = { directory: 0o040000, file: 0o100000, link: 0o120000 } as const

/**
 * A root for a kernel, made of single files of this machine at the same paths.
 *
 * It is written as the cpio archive that the kernel unpacks into its first root: Documentation/driver-api/
 * early-userspace/buffer-format.rst, format newc.
 */
export class Initramfs {
  readonly #entries = new Map<string, Entry>()

  directory(path: string): void {
    if (path === '/' || this.#entries.has(path)) return
    this.directory(dirname(path))
    this.#entries.set(path, { mode: kind.directory | 0o755, data: Buffer.alloc(0), mtime: 0 })
  }

  file(path: string, content: string | Buffer, mode = 0o644): void {
    this.directory(dirname(path))
    this.#entries.set(path, { mode: kind.file | mode, data: Buffer.from(content), mtime: 0 })
  }

  /** A file of this machine at another path. */
  copy(from: string, path: string): void {
    this.directory(dirname(path))
    const { mode, mtimeMs } = lstatSync(from)
    // Python takes a compiled module when the time of its source is the one that it has noted.
    this.#entries.set(path, { mode, data: { file: from }, mtime: Math.floor(mtimeMs / 1000) })
  }

  /** A file of this machine at its path, with the links that lead to it. */
  host(path: string): void {
    let at = '/'
    const parts = path.split('/').filter((part) => part !== '')
    while (parts.length > 0) {
      const next = resolve(at, parts.shift()!)
      const stat = lstatSync(next)
      if (stat.isDirectory()) this.directory(next)
      else if (stat.isSymbolicLink()) {
        const target = readlinkSync(next)
        this.#entries.set(next, { mode: kind.link | 0o777, data: Buffer.from(target), mtime: 0 })
        parts.unshift(
          ...resolve(at, target)
            .split('/')
            .filter((part) => part !== ''),
        )
        at = '/'
        continue
      } else this.copy(next, next)
      at = next
    }
  }

  /** A program of this machine, or a library, with the libraries that it is linked with. */
  program(path: string): void {
    this.host(path)
    const linked = execFileSync('ldd', [path], { encoding: 'utf8' })
    for (const [, library] of linked.matchAll(/^\s*(?:\S+ => )?(\/\S+) \(0x/gm)) this.host(library!)
  }

  async write(archive: string): Promise<void> {
    const out = await open(archive, 'w')
    try {
      let number = 1
      for (const [path, { mode, data, mtime }] of this.#entries) {
        const content = Buffer.isBuffer(data) ? data : readFileSync(data.file)
        await out.writev([header(path.slice(1), number++, mode, mtime, content.length), padded(content)])
      }
      await out.writev([header('TRAILER!!!', 0, 0, 0, 0)])
    } finally {
      await out.close()
    }
  }
}

function header(name: string, number: number, mode: number, mtime: number, size: number): Buffer {
  const links = (mode & 0o170000) === kind.directory ? 2 : 1
  const nameSize = Buffer.byteLength(name) + 1
  const fields = [number, mode, 0, 0, links, mtime, size, 0, 0, 0, 0, nameSize, 0]
  const text = `070701${fields.map((field) => field.toString(16).padStart(8, '0')).join('')}${name}\0`
  return padded(Buffer.from(text))
}

function padded(bytes: Buffer): Buffer {
  const rest = bytes.length % 4
  return rest === 0 ? bytes : Buffer.concat([bytes, Buffer.alloc(4 - rest)])
}
