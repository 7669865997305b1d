// SPDX-License-Identifier: MIT

import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { readFile, rename, rm, symlink } from 'node:fs/promises'
import { Archive } from '../../src/kernel/apt.js'
import { cacheRoot, ensureDirectory, readRecord, writeRecord } from '../../src/kernel/cache.js'
import { withLock } from '../../src/kernel/lock.js'
import { output } from '../../src/kernel/tools.js'

/** A kernel of the distribution with its modules, unpacked. */
export interface Image {
  release: string
  kernel: string
  /** Has `lib/modules/RELEASE`. */
  root: string
}

/** Takes the package of a kernel from the mirror and unpacks it into the cache, where it stays. Nothing is installed. */
export async function obtainImage(release: string, cache = cacheRoot()): Promise<Image> {
  const ready = async (root: string) => {
    // From Debian 13 on: there, /lib is a link in any case.
    if (!existsSync(`${root}/lib`)) await symlink('usr/lib', `${root}/lib`)
    // The package leaves it to its installation.
    await output('depmod', ['-b', root, release])
  }
  const { root } = await obtainPackage(`linux-image-${release}`, ready, cache)
  return { release, kernel: `${root}/boot/vmlinuz-${release}`, root }
}

/** A package from the mirror, unpacked in the cache. */
export async function obtainPackage(
  name: string,
  ready: (root: string) => Promise<unknown> = async () => {},
  cache = cacheRoot(),
): Promise<{ root: string; version: string }> {
  const root = `${cache}/package/${name}`
  await ensureDirectory(`${cache}/package`)
  return withLock(
    `${root}.lock`,
    () => {},
    async () => {
      const known = await readRecord<{ version: string }>(root)
      return { root, version: known?.version ?? (await fetchPackage(name, root, ready, cache)) }
    },
  )
}

async function fetchPackage(
  name: string,
  root: string,
  ready: (root: string) => Promise<unknown>,
  cache: string,
): Promise<string> {
  const note = (line: string) => void process.stderr.write(`${line}\n`)
  const archive = await Archive.open(cache, note)
  const [version] = await archive.versionsOf(name)
  if (version === undefined) throw new Error(`the mirror has no ${name}`)
  const work = await ensureDirectory(`${cache}/package/.unpack-${process.pid}-${name}`)
  try {
    note(`downloading ${name} ${version}`)
    const deb = await archive.download(name, version, work)
    await output('dpkg-deb', ['-x', deb, `${work}/tree`])
    await ready(`${work}/tree`)
    await rm(root, { recursive: true, force: true })
    await rename(`${work}/tree`, root)
    await writeRecord(root, { version })
    return version
  } finally {
    await rm(work, { recursive: true, force: true })
  }
}

/** Files of `lib/modules/RELEASE` that modprobe reads for these modules, relative to the root. */
export async function filesOfModules(
  { release, root }: Pick<Image, 'release' | 'root'>,
  names: string[],
): Promise<string[]> {
  const folder = `lib/modules/${release}`
  const files = new Set(
    ['dep.bin', 'alias.bin', 'symbols.bin', 'builtin.bin', 'builtin.alias.bin', 'builtin.modinfo', 'softdep']
      .map((end) => `${folder}/modules.${end}`)
      .concat(`${folder}/modules.dep`),
  )
  const dependencies = await readFile(`${root}/${folder}/modules.dep`, 'utf8')
  for (const name of names) {
    const line = dependencies.split('\n').find((text) => new RegExp(`(^|/)${name}\\.ko[.\\w]*:`).test(text))
    if (line === undefined) throw new Error(`Linux ${release} has no module ${name}`)
    for (const file of line.replace(':', '').split(' ')) if (file !== '') files.add(`${folder}/${file}`)
  }
  return [...files].filter((file) => existsSync(`${root}/${file}`))
}

/** What modinfo(8) says of a field of a module, one line each. */
export function modinfo(module: string, field: string): string[] {
  return execFileSync('modinfo', ['-F', field, module], { encoding: 'latin1' }).trim().split('\n')
}
