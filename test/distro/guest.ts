// SPDX-License-Identifier: MIT

import { execFileSync } from 'node:child_process'
import { existsSync, lstatSync } from 'node:fs'
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { cacheRoot } from '../../src/kernel/cache.js'
import { splats } from '../../src/kernel/init-script.js'
import { filesOfModules, type Image } from './image.js'
import { Initramfs } from './initramfs.js'
import { bootQemu, type MachineOptions, type QemuRun, type Step } from './qemu.js'

const here = dirname(fileURLToPath(import.meta.url))
const scripts = [
  ...['cases', 'fuse', 'lib'].map((name) => join(here, `../kernel/overlayfs_${name}.py`)),
  join(here, 'kernfs_rows.py'),
  join(here, 'holding.py'),
]
/** What the cases run, as far as this machine has it. */
const programs = ['mkfs.ext4', 'mkfs.xfs', 'mkfs.btrfs', 'losetup', 'fsfreeze', 'unshare']
/** Of the kernel, besides overlayfs: what the cases put layers on, and what `probe` looks at. */
const modules = ['overlay', 'loop', 'xfs', 'btrfs', 'dummy', 'netconsole']

/** Where modprobe and the kernel look for modules: /lib is a link to usr/lib on most machines. */
export const modulesRoot = lstatSync('/lib').isSymbolicLink() ? '/usr' : ''

/** Where the guest has the modules of the kernel as packaged: for `modprobe --dirname`. */
export const packaged = '/packaged'

/** Prints what a file says, or `absent`. */
export const says = (path: string) => [
  interpreter(),
  '-c',
  'import os, sys; p = sys.argv[1]; print(open(p).read() if os.path.exists(p) else "absent")',
  path,
]

/** Python, with a script of the tests. */
export const python = (script: string, ...given: string[]) => [
  interpreter(),
  '-B',
  `/tests/${script}`,
  ...given,
]

/** Python's own idea of its path: what is first on PATH may be a script that starts it. */
const interpreter = () =>
  execFileSync('python3', ['-c', 'import os, sys; print(os.path.realpath(sys.executable))'], {
    encoding: 'utf8',
  }).trim()

export interface GuestRun extends QemuRun {
  /** Kernel messages that are alarms. */
  splats: string[]
}

/**
 * Boots a kernel of the distribution and runs steps in it: programs of this machine, on a root of their own.
 *
 * @param trees directories with `lib/modules/RELEASE`, by the path that the guest has for them
 * @param files of this machine, by path in the guest
 * @param add more of this machine
 */
export async function runInGuest(
  image: Image,
  steps: Step[],
  {
    trees = {},
    files = {},
    add = () => {},
    ...options
  }: {
    trees?: Record<string, string>
    files?: Record<string, string>
    add?: (root: Initramfs) => void
    signal?: AbortSignal
  } & MachineOptions = {},
): Promise<GuestRun> {
  const root = await guestRoot()
  for (const [path, from] of Object.entries({ [packaged]: image.root, ...trees }))
    for (const file of await filesOfModules({ release: image.release, root: from }, modules))
      root.copy(`${from}/${file}`, `${path}/${file}`)
  for (const [path, from] of Object.entries(files)) root.copy(from, path)
  add(root)
  root.file('/steps.json', JSON.stringify(steps))
  await mkdir(`${cacheRoot()}/test`, { recursive: true })
  const work = await mkdtemp(`${cacheRoot()}/test/qemu-`)
  try {
    await root.write(`${work}/initramfs`)
    const run = await bootQemu(image.kernel, `${work}/initramfs`, `${work}/console`, options)
    return { ...run, splats: run.messages.split('\n').filter((line) => new RegExp(splats).test(line)) }
  } finally {
    await rm(work, { recursive: true, force: true })
  }
}

async function guestRoot(): Promise<Initramfs> {
  const root = new Initramfs()
  for (const path of ['/proc', '/sys', '/dev', '/tmp', '/run']) root.directory(path)
  // Links on most machines; the kernel runs /sbin/modprobe.
  for (const path of ['/bin', '/sbin', '/lib']) root.host(path)
  const init = join(here, 'init.py')
  const needed = execFileSync('python3', ['-B', join(here, 'python_files.py'), init, ...scripts], {
    encoding: 'utf8',
  })
  for (const file of needed.trim().split('\n')) {
    if (scripts.includes(file)) continue
    if (/\.so$|\/bin\//.test(file)) root.program(file)
    else root.host(file)
  }
  for (const script of scripts) root.copy(script, `/tests/${script.split('/').at(-1)}`)
  root.file('/init', `#!${interpreter()} -B\n${await readFile(init, 'latin1')}`, 0o755)
  for (const name of ['modprobe', 'insmod', 'rmmod']) root.program(found(name) ?? fail(name))
  for (const name of programs) {
    const path = found(name)
    if (path !== null) root.program(path)
  }
  return root
}

/** The path of a program of this machine. */
export function found(name: string): string | null {
  const directories = [...(process.env.PATH ?? '').split(':'), '/usr/sbin', '/sbin']
  return directories.map((directory) => `${directory}/${name}`).find((path) => existsSync(path)) ?? null
}

function fail(name: string): never {
  throw new Error(`${name} is not installed`)
}
