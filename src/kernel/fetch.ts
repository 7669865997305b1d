// SPDX-License-Identifier: MIT

import { readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { LowerwatchError } from '../errors.js'
import { cacheRoot, ensureDirectory, listRecords, readRecord, writeRecord } from './cache.js'
import { compareVersions } from './series.js'
import { output, requireTools } from './tools.js'
import { openTree } from './tree.js'
import { isCode } from './workspace.js'

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

/**
 * Suites that carry newer kernels than the machine's own, in the order of preference. Which mirror has them is taken
 * from the machine's configuration: nothing here names a host.
 */
const suites = ['trixie', 'bookworm-backports', 'trixie-backports', 'sid', 'experimental']

/** The newest source of a version in the cache, or null. */
export async function cachedSource(version: string, root = cacheRoot()): Promise<Source | null> {
  let best: Source | null = null
  for (const entry of await listRecords(`${root}/src`)) {
    const source = await readRecord<Source>(entry)
    if (source?.version !== version) continue
    if (!best || comparePoints(source.packageVersion, best.packageVersion) > 0)
      best = { ...source, tree: entry }
  }
  return best
}

/** Point releases by number: 7.2.9 before 7.2.13. */
function comparePoints(a: string, b: string): number {
  const points = (version: string) => version.split(/[^0-9]+/).map(Number)
  const [left, right] = [points(a), points(b)]
  for (let i = 0; i < Math.max(left.length, right.length); i++) {
    const difference = (left[i] ?? 0) - (right[i] ?? 0)
    if (difference !== 0) return difference
  }
  return 0
}

/**
 * Takes the source package of a kernel version from the machine's own Debian mirror and unpacks it into the cache. apt
 * verifies signatures and hashes with the archive's keyring; its state is private, so the machine's lists are not touched.
 *
 * @param note is called with one line for each step
 * @throws LowerwatchError MISSING_TOOL, KERNEL (no such version, no network)
 */
export async function fetchSource(
  version: string,
  note: (line: string) => void,
  root = cacheRoot(),
): Promise<Source> {
  const known = await cachedSource(version, root)
  if (known) return known
  await requireTools('apt-get', 'apt-cache', 'dpkg-deb', 'tar', 'xz')
  const options = await prepareApt(root)
  note(`reading package lists of ${suites.join(', ')}`)
  const available = await readLists(options, root)
  const name = `linux-source-${version}`
  if (!available.includes(version))
    throw new LowerwatchError('KERNEL', `the mirror has no ${name}`, {
      hint: `it has ${available.join(', ') || 'none'}; or give an unpacked source with --tree`,
    })

  const work = await ensureDirectory(`${root}/src/.unpack-${process.pid}`)
  try {
    note(`downloading ${name}`)
    await output('apt-get', [...options, 'download', name], { cwd: work })
    const [deb] = (await readdir(work)).filter((file) => file.endsWith('.deb'))
    if (!deb) throw new LowerwatchError('KERNEL', `apt downloaded no ${name}`)
    const packageVersion = await output('dpkg-deb', ['-f', `${work}/${deb}`, 'Version'])
    const identity = await sha256(`${work}/${deb}`)
    note(`unpacking ${name} ${packageVersion}`)
    await output('dpkg-deb', ['-x', `${work}/${deb}`, `${work}/package`])
    const folder = `${work}/package/usr/src`
    await output('tar', ['-C', work, '-xf', `${folder}/${name}.tar.xz`])
    const tree = await openTree(`${work}/${name}`)
    if (tree.version !== version) throw new LowerwatchError('KERNEL', `${name} holds Linux ${tree.release}`)
    const entry = `${root}/src/${packageVersion}`
    await rm(entry, { recursive: true, force: true })
    await rename(tree.root, entry)
    const source: Source = { version, packageVersion, identity, tree: entry }
    await writeRecord(entry, source)
    return source
  } finally {
    await rm(work, { recursive: true, force: true })
  }
}

async function availableVersions(options: string[]): Promise<string[]> {
  const text = await output('apt-cache', [...options, 'search', '--names-only', '^linux-source-[0-9.]+$'])
  return [...text.matchAll(/^linux-source-(\d+\.\d+) /gm)].map((match) => match[1]!).sort(compareVersions)
}

/** A mirror does not have every suite: it is enough that one answered. The mirror is not named in what is reported. */
async function readLists(options: string[], root: string): Promise<string[]> {
  let cause: unknown
  try {
    await output('apt-get', [...options, 'update'])
  } catch (error) {
    cause = error
  }
  const lists = await namesIn(`${root}/apt/state/lists`)
  if (lists.some((name) => name.endsWith('InRelease'))) return availableVersions(options)
  throw new LowerwatchError('KERNEL', "the machine's package mirror cannot be used", {
    hint: 'check the network, or give an unpacked source with --tree',
    cause,
  })
}

/** Options that give apt a private state and a source list for the newer suites. */
async function prepareApt(root: string): Promise<string[]> {
  const home = `${root}/apt`
  for (const folder of ['state/lists/partial', 'cache/archives/partial'])
    await ensureDirectory(`${home}/${folder}`)
  const { uri, signedBy } = await machineMirror()
  const keyring = signedBy ? ` [signed-by=${signedBy}]` : ''
  await writeFile(
    `${home}/sources.list`,
    suites.map((suite) => `deb${keyring} ${uri} ${suite} main\n`).join(''),
  )
  return [
    ['Dir::Etc::sourcelist', `${home}/sources.list`],
    ['Dir::Etc::sourceparts', '/dev/null'],
    ['Dir::State', `${home}/state`],
    ['Dir::State::status', '/dev/null'],
    ['Dir::Cache', `${home}/cache`],
    ['Acquire::Languages', 'none'],
    ['APT::Sandbox::User', 'root'],
  ].flatMap(([key, value]) => ['-o', `${key}=${value}`])
}

/** The first Debian archive in the machine's own apt configuration (sources.list(5), both formats). */
async function machineMirror(): Promise<{ uri: string; signedBy: string }> {
  const files = ['/etc/apt/sources.list']
  for (const name of await namesIn('/etc/apt/sources.list.d')) files.push(`/etc/apt/sources.list.d/${name}`)
  for (const file of files) {
    if (!/\.(list|sources)$/.test(file)) continue
    const mirror = parseSources(await textOf(file))
    if (mirror) return mirror
  }
  throw new LowerwatchError('KERNEL', 'apt on this machine has no Debian archive', {
    hint: 'give an unpacked source with --tree',
  })
}

/** The first archive that holds a Debian release, not its security updates. Exported for its test. */
export function parseSources(text: string): { uri: string; signedBy: string } | null {
  for (const line of text.split('\n')) {
    const match = /^deb\s+(?:\[(.*?)\]\s+)?(\S+)\s+(\S+)\s/.exec(line)
    if (match && /\/debian\/?$/.test(match[2]!))
      return { uri: match[2]!, signedBy: /signed-by=(\S+)/.exec(match[1] ?? '')?.[1] ?? '' }
  }
  for (const stanza of text.split(/\n\s*\n/)) {
    const field = (key: string) => new RegExp(`^${key}:\\s*(\\S+)`, 'mi').exec(stanza)?.[1]
    const uri = field('URIs')
    if (field('Types')?.startsWith('deb') && uri && /\/debian\/?$/.test(uri) && field('Enabled') !== 'no')
      return { uri, signedBy: field('Signed-By') ?? '' }
  }
  return null
}

async function sha256(file: string): Promise<string> {
  const { createHash } = await import('node:crypto')
  const { createReadStream } = await import('node:fs')
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(file)) hash.update(chunk)
  return hash.digest('hex')
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return (await readdir(folder)).sort()
  } catch (error) {
    if (isCode(error, 'ENOENT')) return []
    throw error
  }
}

async function textOf(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8')
  } catch (error) {
    if (isCode(error, 'ENOENT')) return ''
    throw error
  }
}
