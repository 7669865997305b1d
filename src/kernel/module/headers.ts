// SPDX-License-Identifier: MIT

import { readFile, writeFile } from 'node:fs/promises'
import { LowerwatchError } from '../../errors.js'
import { type Archive, compareDebian } from '../apt.js'
import { ensureDirectory, readEntry, replaceEntry, withWork } from '../cache.js'
import { output } from '../tools.js'
import { isCode } from '../workspace.js'

/** What a kernel exports to modules, a line of Module.symvers. */
export interface ExportedSymbol {
  /** Checksum of its type; 0 without CONFIG_MODVERSIONS. */
  crc: number
  /** Empty for all. */
  namespace: string
}

/** Headers to build modules against. */
export interface Headers {
  release: string
  directory: string
  /** Where they are from: the system, or unpacked into the cache. */
  origin: 'installed' | 'cache'
  /** Version of the package; empty when no package has them. */
  packageVersion: string
  /** `.config`: OVERLAY_FS to m. */
  config: Map<string, string>
  symbols: Map<string, ExportedSymbol>
}

/** The headers of a kernel, installed or in the cache; null when there are none. */
export async function findHeaders(release: string, root: string): Promise<Headers | null> {
  const installed = `/lib/modules/${release}/build`
  if (await exists(`${installed}/Module.symvers`))
    return readHeaders(release, installed, 'installed', await packageOf(release))
  const entry = `${root}/headers/${release}`
  const record = await readEntry<{ packageVersion: string }>(entry)
  if (!record) return null
  return readHeaders(release, `${entry}/usr/src/linux-headers-${release}`, 'cache', record.packageVersion)
}

/**
 * Takes the headers of a kernel from the mirror and unpacks them into the cache. Nothing is installed.
 *
 * @throws LowerwatchError KERNEL when the mirror does not have them
 */
export async function fetchHeaders(
  release: string,
  archive: Archive,
  note: (line: string) => void,
  root: string,
): Promise<Headers> {
  const name = `linux-headers-${release}`
  const [version] = await archive.versionsOf(name)
  if (version === undefined)
    throw new LowerwatchError('KERNEL', `there are no headers of Linux ${release}`, {
      hint: `neither ${name} is on the mirror nor is /lib/modules/${release}/build there`,
    })
  const entry = `${root}/headers/${release}`
  const waiting = () => note('another process fetches it, waiting')
  return withWork(entry, waiting, async (work) => {
    const there = await findHeaders(release, root)
    if (there) return there
    note(`downloading ${name} ${version}`)
    const deb = await archive.download(name, version, work)
    // What all flavours have in common, and the programs that build.
    const needs = await output('dpkg-deb', ['-f', deb, 'Depends'])
    const debs = [deb]
    for (const [other] of needs.matchAll(/\blinux-(headers-[^\s,]+-common|kbuild-[^\s,]+)/g))
      debs.push(await archive.download(other, version, work))
    const unpacked = await ensureDirectory(`${work}/tree`)
    for (const file of debs) await output('dpkg-deb', ['-x', file, unpacked])
    await relocate(`${unpacked}/usr/src/${name}`, entry)
    await replaceEntry(entry, unpacked, { packageVersion: version })
    return (await findHeaders(release, root))!
  })
}

/** The packages name each other by the paths that they are installed to. */
async function relocate(directory: string, entry: string): Promise<void> {
  for (const name of ['Makefile', '.kernelvariables']) {
    if (!(await exists(`${directory}/${name}`))) continue
    const text = await readFile(`${directory}/${name}`, 'utf8')
    await writeFile(
      `${directory}/${name}`,
      text.replace(/(^|[\s=])\/usr\/(src|lib)\/linux-/gm, `$1${entry}/usr/$2/linux-`),
    )
  }
}

/** What the kernel calls itself. Debian 12 has the point release in `kernel.release`. */
async function releaseOf(directory: string): Promise<string> {
  try {
    const text = await readFile(`${directory}/include/generated/utsrelease.h`, 'latin1')
    const name = /^#define UTS_RELEASE "(.*)"$/m.exec(text)?.[1]
    if (name !== undefined) return name
  } catch (error) {
    if (!isCode(error, 'ENOENT')) throw error
  }
  return (await readFile(`${directory}/include/config/kernel.release`, 'latin1')).trim()
}

async function readHeaders(
  release: string,
  directory: string,
  origin: Headers['origin'],
  packageVersion: string,
): Promise<Headers> {
  const [config, symvers, built] = await Promise.all([
    readFile(`${directory}/.config`, 'latin1'),
    readFile(`${directory}/Module.symvers`, 'latin1'),
    releaseOf(directory),
  ])
  if (built !== release)
    throw new LowerwatchError('UNSUPPORTED_KERNEL', `${directory} is of Linux ${built}, not ${release}`)
  return {
    release,
    directory,
    origin,
    packageVersion,
    config: parseConfig(config),
    symbols: parseSymvers(symvers),
  }
}

/** `CONFIG_X=value` without quotes; options that are not set are not there. */
export function parseConfig(text: string): Map<string, string> {
  const options = [...text.matchAll(/^CONFIG_(\w+)=(.*)$/gm)]
  return new Map(options.map((match) => [match[1]!, match[2]!.replace(/^"(.*)"$/, '$1')]))
}

/** Source: Documentation/kbuild/modules.rst: checksum, symbol, module, kind of export, namespace. */
export function parseSymvers(text: string): Map<string, ExportedSymbol> {
  const symbols = new Map<string, ExportedSymbol>()
  for (const line of text.split('\n')) {
    const [crc, name, , , namespace] = line.split('\t')
    if (crc && name) symbols.set(name, { crc: Number(crc), namespace: namespace ?? '' })
  }
  return symbols
}

async function packageOf(release: string): Promise<string> {
  try {
    return await output('dpkg-query', ['-W', `-f=\${source:Version}`, `linux-headers-${release}`])
  } catch (error) {
    if (error instanceof LowerwatchError || isCode(error, 'ENOENT')) return ''
    throw error
  }
}

async function exists(path: string): Promise<boolean> {
  try {
    await readFile(path)
    return true
  } catch (error) {
    if (isCode(error, 'ENOENT', 'ENOTDIR')) return false
    throw error
  }
}

/** The newest kernel with one of these versions whose headers the mirror has, and whose release ends like this; or ''. */
export async function newestRelease(archive: Archive, versions: string[], ending: string): Promise<string> {
  const names = await archive.names('^linux-headers-[0-9]')
  const releases = names
    .map((name) => name.slice('linux-headers-'.length))
    .filter((release) => release.endsWith(ending))
    .filter((release) => versions.some((version) => release.startsWith(`${version}.`)))
  return releases.sort(compareDebian).at(-1) ?? ''
}
