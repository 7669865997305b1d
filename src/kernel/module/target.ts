// SPDX-License-Identifier: MIT

import { createHash, randomBytes } from 'node:crypto'
import {
  access,
  mkdir,
  mkdtemp,
  open,
  readdir,
  readFile,
  realpath,
  rename,
  rm,
  rmdir,
  writeFile,
} from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, dirname, resolve } from 'node:path'
import { LowerwatchError } from '../../errors.js'
import { output } from '../tools.js'
import { isCode } from '../workspace.js'
import { securePath } from './secure.js'
import { checkRelease } from './source.js'

const why = 'a module is not installed where others than root can change files'

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

  /** @throws LowerwatchError KERNEL when that machine does not have this kernel, NOT_PERMITTED ({@link securePath}), USAGE */
  static async open(root: string, release: string): Promise<Target> {
    checkRelease(release)
    if (root === '') throw new LowerwatchError('USAGE', 'the root of a machine is a directory')
    const real = await securePath(resolve(root), why)
    const target = new Target(real === '/' ? '' : real, release)
    if (!(await target.has(`/lib/modules/${release}/modules.dep`)))
      throw new LowerwatchError('KERNEL', `Linux ${release} is not installed in ${root}`, {
        hint: `${target.at(`/lib/modules/${release}`)} has no modules.dep`,
      })
    const folder = `/lib/modules/${release}`
    // depmod and modprobe take a link in a tree as one of the machine that they run on.
    if ((await realpath(target.at(folder))) !== (await target.path(folder)))
      throw new LowerwatchError('KERNEL', `a link on ${target.at(folder)} leads out of ${root}`, {
        hint: 'depmod would follow it: make it a relative one',
      })
    return target
  }

  /** The machine that runs this. */
  get own(): boolean {
    return this.root === ''
  }

  /** What to call a file here. To use it, take {@link path}. */
  at(path: string): string {
    return this.root + path
  }

  /** A file here, also where a link is on the way. @throws LowerwatchError NOT_PERMITTED when others can change it */
  path(path: string): Promise<string> {
    return securePath(path, why, this.root)
  }

  async has(path: string): Promise<boolean> {
    try {
      await access(await this.path(path))
      return true
    } catch (error) {
      if (isCode(error, 'ENOENT', 'ENOTDIR')) return false
      throw error
    }
  }

  async read(path: string): Promise<Buffer | null> {
    try {
      return await readFile(await this.path(path))
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

  /** Where DKMS puts it, packed as it is set up to. */
  get dkmsPaths(): string[] {
    const path = `/lib/modules/${this.release}/updates/dkms/overlay.ko`
    return ['', '.gz', '.xz', '.zst'].map((end) => path + end)
  }

  /** Writes a file so that there is either the old one or the new one, whatever happens meanwhile. */
  async replace(path: string, content: Buffer | string, mode = 0o644): Promise<void> {
    const folder = await this.#folder(path)
    await mkdir(folder, { recursive: true, mode: 0o755 })
    const temporary = `${folder}/${temporaryName()}`
    try {
      // O_EXCL: neither a file that is there nor what a link leads to.
      const file = await open(temporary, 'wx', mode)
      try {
        await file.writeFile(content)
        await file.chmod(mode)
        await file.sync()
      } finally {
        await file.close()
      }
      await rename(temporary, `${folder}/${basename(path)}`)
    } finally {
      await rm(temporary, { force: true })
    }
    await sync(folder)
  }

  /** Where a file is, which is no link that would be followed; without what was left there by one who was killed. */
  async #folder(path: string): Promise<string> {
    const folder = await this.path(dirname(path))
    for (const name of await namesIn(folder))
      if (isTemporary(name)) await rm(`${folder}/${name}`, { force: true })
    return folder
  }

  /** Removes a file, and the directories that were made for it, when they are empty then. */
  async remove(path: string): Promise<void> {
    await rm(`${await this.#folder(path)}/${basename(path)}`, { force: true })
    try {
      for (let folder = dirname(path); /lowerwatch|\/updates$/.test(folder); folder = dirname(folder))
        await rmdir(await this.path(folder))
    } catch (error) {
      if (!isCode(error, 'ENOTEMPTY', 'EEXIST', 'ENOENT')) throw error
    }
  }

  async depmod(...options: string[]): Promise<void> {
    await output('depmod', ['-b', this.root || '/', ...options, this.release])
  }

  /**
   * Takes the module away that was installed directly. modules.dep names a file that is there at every moment: it is
   * turned to the kernel's own before, because a mount finds no overlayfs between that and depmod's end otherwise.
   */
  async withdraw(): Promise<void> {
    if ((await this.resolved()) === this.modulePath) {
      const work = await mkdtemp(`${tmpdir()}/lowerwatch-depmod-`)
      try {
        await writeFile(`${work}/stock.conf`, 'override overlay * kernel/fs/overlayfs\n')
        await this.depmod('-C', `${work}/stock.conf`)
      } finally {
        await rm(work, { recursive: true, force: true })
      }
    }
    await this.remove(this.modulePath)
    // What the machine's own depmod.d says of other modules counts again.
    await this.depmod()
  }

  /** The file that modprobe(8) takes for overlayfs; null when there is none. */
  async resolved(): Promise<string | null> {
    const folder = `/lib/modules/${this.release}`
    const text = (await this.read(`${folder}/modules.dep`))?.toString('latin1') ?? ''
    const path = /^((?:\S*\/)?overlay\.ko(?:\.\w+)?):/m.exec(text)?.[1]
    if (path === undefined) return null
    return path.startsWith('/') ? path : `${folder}/${path}`
  }

  /** @throws LowerwatchError KERNEL when the record is not one that an installation writes */
  async installed(): Promise<Installed | null> {
    const text = await this.read(this.#record)
    if (text === null) return null
    const record = parseRecord(text.toString('utf8'))
    const place = record?.method === 'direct' ? [this.modulePath] : this.dkmsPaths
    if (record && record.release === this.release && place.includes(record.module)) return record
    throw new LowerwatchError('KERNEL', `${this.at(this.#record)} is not what "install" writes`, {
      hint: 'delete it, and run this again',
    })
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

function parseRecord(text: string): Installed | null {
  try {
    const { release, method, module, sha256, source, certificate } = JSON.parse(text)
    const strings = [release, module, source, sha256 ?? '', certificate ?? '']
    if (!strings.every((field) => typeof field === 'string' && !/\p{Cc}/u.test(field))) return null
    if (method !== 'dkms' && method !== 'direct') return null
    return { release, method, module, sha256, source, certificate }
  } catch (error) {
    // A SyntaxError, or a TypeError for null.
    if (error instanceof SyntaxError || error instanceof TypeError) return null
    throw error
  }
}

/** Neither depmod nor run-parts(8) takes it. */
const temporaryName = () => `.lowerwatch-${randomBytes(8).toString('hex')}`
const isTemporary = (name: string) => /^\.lowerwatch-[0-9a-f]{16}$/.test(name)

async function namesIn(folder: string): Promise<string[]> {
  try {
    return await readdir(folder)
  } catch (error) {
    if (isCode(error, 'ENOENT', 'ENOTDIR')) return []
    throw error
  }
}

/** So that a name is there after a loss of power: fsync(2) of a file does not say so. */
async function sync(folder: string): Promise<void> {
  const directory = await open(folder)
  await directory.sync().finally(() => directory.close())
}

export const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex')
