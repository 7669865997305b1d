// SPDX-License-Identifier: MIT

import { createHash } from 'node:crypto'
import { access, mkdir, open, readFile, rename, rm, rmdir, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { LowerwatchError } from '../../errors.js'
import { output } from '../tools.js'
import { isCode } from '../workspace.js'

/** How a module came to where it is. */
export type Method = 'dkms' | 'direct'

/** What was installed for a kernel: `var/lib/lowerwatch/modules/RELEASE.json`. */
export interface Installed {
  release: string
  method: Method
  /** Path on the machine, without the root. */
  module: string
  /** Of the file as installed, with its signature; null where DKMS wrote it. */
  sha256: string | null
  /** Point release of the sources. */
  source: string
  /** Certificate of the key that signed it; null without a signature of ours. */
  certificate: string | null
}

/**
 * A machine whose modules are changed: this one, or one in a directory. Paths are of that machine; `at` gives them here.
 */
export class Target {
  private constructor(
    readonly root: string,
    readonly release: string,
  ) {}

  /** @throws LowerwatchError KERNEL when that machine does not have this kernel */
  static async open(root: string, release: string): Promise<Target> {
    const target = new Target(root.replace(/\/+$/, ''), release)
    if (!(await target.has(`/lib/modules/${release}/modules.dep`)))
      throw new LowerwatchError('KERNEL', `Linux ${release} is not installed in ${root}`, {
        hint: `${target.at(`/lib/modules/${release}`)} has no modules.dep`,
      })
    return target
  }

  /** The machine that runs this. */
  get own(): boolean {
    return this.root === ''
  }

  at(path: string): string {
    return this.root + path
  }

  async has(path: string): Promise<boolean> {
    try {
      await access(this.at(path))
      return true
    } catch (error) {
      if (isCode(error, 'ENOENT', 'ENOTDIR')) return false
      throw error
    }
  }

  async read(path: string): Promise<Buffer | null> {
    try {
      return await readFile(this.at(path))
    } catch (error) {
      // A variable of the firmware that is not there is no directory entry either.
      if (isCode(error, 'ENOENT', 'ENOTDIR')) return null
      throw error
    }
  }

  /** Where modules are that come before those of the kernel's package: depmod.d(5), `search updates built-in`. */
  get modulePath(): string {
    return `/lib/modules/${this.release}/updates/lowerwatch/overlay.ko`
  }

  /** Writes a file so that there is either the old one or the new one, whatever happens meanwhile. */
  async replace(path: string, content: Buffer | string, mode = 0o644): Promise<void> {
    await mkdir(dirname(this.at(path)), { recursive: true })
    const temporary = `${this.at(path)}.lowerwatch-new`
    try {
      await writeFile(temporary, content, { mode })
      const file = await open(temporary)
      await file.sync().finally(() => file.close())
      await rename(temporary, this.at(path))
    } finally {
      await rm(temporary, { force: true })
    }
  }

  /** Removes a file, and the directories that were made for it, when they are empty then. */
  async remove(path: string): Promise<void> {
    await rm(this.at(path), { force: true })
    try {
      for (let folder = dirname(path); /lowerwatch|\/updates$/.test(folder); folder = dirname(folder))
        await rmdir(this.at(folder))
    } catch (error) {
      if (!isCode(error, 'ENOTEMPTY', 'EEXIST', 'ENOENT')) throw error
    }
  }

  async depmod(): Promise<void> {
    await output('depmod', ['-b', this.root || '/', this.release])
  }

  /** The file that modprobe(8) takes for overlayfs; null when there is none. */
  async resolved(): Promise<string | null> {
    const folder = `/lib/modules/${this.release}`
    const text = (await this.read(`${folder}/modules.dep`))?.toString('latin1') ?? ''
    const path = /^(\S*\boverlay\.ko(?:\.\w+)?):/m.exec(text)?.[1]
    if (path === undefined) return null
    return path.startsWith('/') ? path : `${folder}/${path}`
  }

  async installed(): Promise<Installed | null> {
    const text = await this.read(this.#record)
    return text && (JSON.parse(text.toString('utf8')) as Installed)
  }

  async remember(installed: Installed): Promise<void> {
    await this.replace(this.#record, `${JSON.stringify(installed, null, 2)}\n`)
  }

  async forget(): Promise<void> {
    await this.remove(this.#record)
  }

  get #record(): string {
    return `/var/lib/lowerwatch/modules/${this.release}.json`
  }
}

export const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex')
