// SPDX-License-Identifier: MIT

import { writeFile } from 'node:fs/promises'
import type { ByteString } from '../bytes.js'
import { LowerwatchError } from '../errors.js'
import { Archive, compareDebian } from './apt.js'
import { cacheRoot, listRecords, readEntry, replaceEntry, withWork } from './cache.js'
import { secureCache } from './module/secure.js'
import { compareVersions, loadFolders, versions } from './series.js'
import { output, requireTools } from './tools.js'
import { openTree } from './tree.js'

/** A source in the cache. */
export interface Source {
  /** major.minor */
  version: string
  /** Package version, for example `7.2.13-1`. */
  packageVersion: string
  /** What the tree is, for build keys: the SHA-256 of the package. */
  identity: string
  tree: string
}

/** A point release that the mirror has as a source package. */
export interface PointRelease {
  /** For example `7.2.14`. */
  release: string
  packageVersion: string
}

/** The point releases of a version that the mirror has, newest first. */
export async function pointReleases(archive: Archive, version: string): Promise<PointRelease[]> {
  const found: PointRelease[] = []
  for (const packageVersion of await archive.versionsOf(`linux-source-${version}`)) {
    const release = releaseOf(packageVersion)
    if (release !== undefined) found.push({ release, packageVersion })
  }
  return found
}

/** Not of a release candidate: 7.3~rc7-1. */
const releaseOf = (packageVersion: string) => /^(\d+\.\d+(?:\.\d+)?)-/.exec(packageVersion)?.[1]

/** The source of a version in the cache that the series are made for, or the newest there, or null. */
export async function cachedSource(
  version: string,
  base: string | undefined,
  root = cacheRoot(),
): Promise<Source | null> {
  let best: Source | null = null
  for (const entry of await listRecords(`${root}/src`)) {
    const source = await readEntry<Source>(entry)
    if (source?.version !== version) continue
    if (!best || preferred(base)(source, best) < 0) best = { ...source, tree: entry }
  }
  return best
}

/** Orders packages: those of this point release first, then the newest first. */
const preferred =
  (base: string | undefined) =>
  (a: { packageVersion: string }, b: { packageVersion: string }): number => {
    const isBase = (of: { packageVersion: string }) => Number(releaseOf(of.packageVersion) === base)
    return isBase(b) - isBase(a) || compareDebian(b.packageVersion, a.packageVersion)
  }

/** The newest point release that a series of a version is made for; undefined when there is none. */
async function baseOf(version: string): Promise<string | undefined> {
  const folders = (await versions()).includes(version) ? await loadFolders(version) : []
  return folders.find(({ series }) => series === 'overlayfs')?.base ?? folders[0]?.base
}

/**
 * Takes the source package of a kernel version from the machine's own Debian mirror ({@link Archive}) and unpacks it
 * into the cache: of the point release that the series are made for, as long as the mirror has it, or else the newest.
 *
 * @param note is called with one line for each step
 * @param open is called when it is not in the cache
 * @throws LowerwatchError MISSING_TOOL, KERNEL (no such version, no network), NOT_PERMITTED ({@link secureCache})
 */
export async function fetchSource(
  version: string,
  note: (line: string) => void,
  root = cacheRoot(),
  open = () => Archive.open(root, note),
): Promise<Source> {
  await secureCache(root)
  const base = await baseOf(version)
  const known = await cachedSource(version, base, root)
  if (known && (base === undefined || releaseOf(known.packageVersion) === base)) return known
  let archive: Archive
  try {
    await requireTools('tar', 'xz')
    archive = await open()
  } catch (error) {
    if (!known || !(error instanceof LowerwatchError)) throw error
    note(`${error.message}: Linux ${known.packageVersion} of the cache is taken, the series are for ${base}`)
    return known
  }
  const name = `linux-source-${version}`
  const [newest] = await archive.versionsOf(name)
  if (newest === undefined) {
    const names = await archive.names('^linux-source-[0-9.]+$')
    const available = names.map((other) => other.slice('linux-source-'.length)).sort(compareVersions)
    throw new LowerwatchError('KERNEL', `the mirror has no ${name}`, {
      hint: `it has ${available.join(', ') || 'none'}; or give an unpacked source with --tree`,
    })
  }
  const [point] = (await pointReleases(archive, version)).sort(preferred(base))
  // Before the first release there are candidates only.
  const packageVersion = point?.packageVersion ?? newest
  const entry = `${root}/src/${packageVersion}`
  return withWork(`${root}/src/${name}`, waits(note), async (work) => {
    const there = await readEntry<Source>(entry)
    if (there) return { ...there, tree: entry }
    note(`downloading ${name}`)
    const deb = await archive.download(name, packageVersion, work)
    const identity = await sha256(deb)
    note(`unpacking ${name} ${packageVersion}`)
    await unpack(deb, name, work)
    const tree = await openTree(`${work}/${name}`)
    if (tree.version !== version) throw new LowerwatchError('KERNEL', `${name} holds Linux ${tree.release}`)
    const source: Source = { version, packageVersion, identity, tree: entry }
    await replaceEntry(entry, tree.root, source)
    return source
  })
}

const waits = (note: (line: string) => void) => () => note('another process fetches it, waiting')

/**
 * A part of a source package, for patches to be tried on: these files, as far as the source has them, and the Makefile.
 * It comes from a whole source in the cache, or is kept apart from these: builds do not take it up.
 *
 * @param archive is called when it is not in the cache
 * @param paths relative to the source; a directory is taken with all that is in it
 */
export async function fetchPart(
  archive: () => Promise<Archive>,
  version: string,
  packageVersion: string,
  paths: ByteString[],
  note: (line: string) => void,
  root = cacheRoot(),
): Promise<string> {
  const whole = await readEntry<Source>(`${root}/src/${packageVersion}`)
  if (whole) return `${root}/src/${packageVersion}`
  const entry = `${root}/part/${version}-${packageVersion}`
  const inCache = async () => (await readEntry<{ paths: string[] }>(entry))?.paths ?? []
  const complete = (have: string[]) => have.length > 0 && paths.every((path) => have.includes(path))
  if (complete(await inCache())) return entry
  await requireTools('tar', 'xz')
  const name = `linux-source-${version}`
  return withWork(entry, waits(note), async (work) => {
    const have = await inCache()
    if (complete(have)) return entry
    note(`downloading ${name} ${packageVersion}`)
    const deb = await (await archive()).download(name, packageVersion, work)
    note(`unpacking ${name} ${packageVersion}`)
    const all = [...new Set(['Makefile', ...paths, ...have])]
    await unpack(deb, name, work, all)
    await replaceEntry(entry, `${work}/${name}`, { paths: all })
    return entry
  })
}

/** Unpacks `name/` of a source package into `work`; with `members`, only those that are there. */
async function unpack(deb: string, name: string, work: string, members?: ByteString[]): Promise<void> {
  await output('dpkg-deb', ['-x', deb, `${work}/package`])
  // As root tar would keep the owners and modes that the one who made the package had.
  const own = ['--no-same-owner', '--no-same-permissions']
  const args = ['-C', work, ...own, '-xf', `${work}/package/usr/src/${name}.tar.xz`]
  if (members === undefined) {
    await output('tar', args)
    return
  }
  await writeFile(`${work}/members`, members.map((path) => `${name}/${path}\0`).join(''), 'latin1')
  const { execa } = await import('execa')
  const result = await execa('tar', [...args, '--null', '--no-wildcards', '-T', `${work}/members`], {
    reject: false,
    stdin: 'ignore',
    env: { LC_ALL: 'C' },
  })
  // tar fails for a member that is not there; it must have said nothing else.
  const harmless = /: Not found in archive$|^tar: Exiting with failure status due to previous errors$/
  const said = result.stderr.split('\n').find((line) => line !== '' && !harmless.test(line))
  if (result.failed && (said !== undefined || result.exitCode !== 2))
    throw new LowerwatchError('KERNEL', `${name} cannot be unpacked`, { hint: said ?? '', cause: result })
}

async function sha256(file: string): Promise<string> {
  const { createHash } = await import('node:crypto')
  const { createReadStream } = await import('node:fs')
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(file)) hash.update(chunk)
  return hash.digest('hex')
}
