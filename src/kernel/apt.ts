// SPDX-License-Identifier: MIT

import { readFileSync } from 'node:fs'
import { readdir, writeFile } from 'node:fs/promises'
import { LowerwatchError } from '../errors.js'
import { ensureDirectory } from './cache.js'
import { withLock } from './lock.js'
import { secureCache } from './module/secure.js'
import { output, requireTools } from './tools.js'
import { isCode } from './workspace.js'

/**
 * Suites that carry newer kernels than the machine's own, in the order of preference. Which mirror has them is taken
 * from the machine's configuration: nothing here names a host.
 */
const suites = ['bookworm', 'trixie', 'bookworm-backports', 'trixie-backports', 'sid', 'experimental']

/**
 * The machine's own Debian mirror, newer suites included. apt verifies signatures and hashes with the archive's keyring;
 * its state is private, so the machine's lists are not touched.
 */
export class Archive {
  private constructor(private readonly options: string[]) {}

  /**
   * Reads the package lists, as far as they are not the mirror's newest already.
   *
   * @param note is called with one line for each step
   * @throws LowerwatchError MISSING_TOOL, KERNEL (no mirror configured, no network), NOT_PERMITTED ({@link secureCache})
   */
  static async open(root: string, note: (line: string) => void): Promise<Archive> {
    await secureCache(root)
    await requireTools('apt-get', 'apt-cache', 'dpkg-deb')
    const options = await prepareApt(root)
    note(`reading package lists of ${suites.join(', ')}`)
    // apt refuses to work twice on one state.
    await withLock(
      `${root}/apt.lock`,
      () => note('another process reads them, waiting'),
      () => update(options),
    )
    return new Archive(options)
  }

  /** Names of packages, by a regular expression of apt-cache(8). */
  async names(pattern: string): Promise<string[]> {
    const text = await output('apt-cache', [...this.options, 'search', '--names-only', pattern])
    return [...text.matchAll(/^(\S+) - /gm)].map((match) => match[1]!)
  }

  /** Versions of a package in all suites, newest first; none when there is no such package. */
  async versionsOf(name: string): Promise<string[]> {
    const text = await output('apt-cache', [...this.options, 'madison', name])
    const versions = [...text.matchAll(/^\s*\S+ \|\s*(\S+) \|/gm)].map((match) => match[1]!)
    return [...new Set(versions)].sort((a, b) => compareDebian(b, a))
  }

  /**
   * Downloads a package.
   *
   * @returns the path of the .deb
   */
  async download(name: string, version: string, directory: string): Promise<string> {
    const wanted = `${name}=${version}`
    await output('apt-get', [...this.options, 'download', wanted], { cwd: directory })
    const file = (await readdir(directory)).find((n) => n.startsWith(`${name}_`) && n.endsWith('.deb'))
    if (!file) throw new LowerwatchError('KERNEL', `apt downloaded no ${wanted}`)
    return `${directory}/${file}`
  }
}

/**
 * A mirror does not have every suite: it is enough that one answered. apt ends well when none did, as long as it has
 * lists of before, and says so only in what it prints. The mirror is not named in what is reported.
 */
async function update(options: string[]): Promise<void> {
  const { execa } = await import('execa')
  const result = await execa('apt-get', [...options, '-q', 'update'], {
    reject: false,
    stdin: 'ignore',
    env: { LC_ALL: 'C' },
  })
  if (/^(Hit|Get):\d+ \S+ \S+ InRelease/m.test(result.stdout)) return
  throw new LowerwatchError('KERNEL', "the machine's package mirror cannot be used", {
    hint: 'check the network, or give an unpacked source to a command with --tree',
    cause: result,
  })
}

/** Options that give apt a private state and a source list for the newer suites. */
async function prepareApt(root: string): Promise<string[]> {
  const home = `${root}/apt`
  for (const folder of ['state/lists/partial', 'cache/archives/partial'])
    await ensureDirectory(`${home}/${folder}`)
  await writeFile(`${home}/machine.sources`, await sourcesFor())
  return [
    ['Dir::Etc::sourcelist', `${home}/machine.sources`],
    ['Dir::Etc::sourceparts', '/dev/null'],
    ['Dir::State', `${home}/state`],
    ['Dir::State::status', '/dev/null'],
    ['Dir::Cache', `${home}/cache`],
    ['Acquire::Languages', 'none'],
    ['APT::Sandbox::User', 'root'],
  ].flatMap(([key, value]) => ['-o', `${key}=${value}`])
}

/**
 * The newer suites of the first Debian archive in the machine's own apt configuration (sources.list(5), both formats); in
 * that of deb822, where a key can be a part of it. Exported for its test.
 */
export async function sourcesFor(etc = '/etc/apt'): Promise<string> {
  const files = [`${etc}/sources.list`]
  for (const name of await namesIn(`${etc}/sources.list.d`)) files.push(`${etc}/sources.list.d/${name}`)
  for (const file of files) {
    if (!/\.(list|sources)$/.test(file)) continue
    const mirror = parseSources(textOf(file))
    if (!mirror) continue
    const key = mirror.signedBy === '' ? '' : `Signed-By: ${mirror.signedBy}\n`
    return `Types: deb\nURIs: ${mirror.uri}\nSuites: ${suites.join(' ')}\nComponents: main\n${key}`
  }
  throw new LowerwatchError('KERNEL', 'apt on this machine has no Debian archive', {
    hint: 'give an unpacked source to a command with --tree',
  })
}

/**
 * The first archive that holds a Debian release, not its security updates. `signedBy` is as it is there: files, or a key on
 * lines of its own. Exported for its test.
 */
export function parseSources(text: string): { uri: string; signedBy: string } | null {
  for (const [, options, uri] of text.matchAll(/^deb\s+(?:\[(.*?)\]\s+)?(\S+)\s+\S+\s/gm))
    if (isDebian(uri!)) return { uri: uri!, signedBy: /signed-by=(\S+)/.exec(options ?? '')?.[1] ?? '' }
  for (const stanza of text.replace(/^#.*\n/gm, '').split(/\n\s*\n/)) {
    // Lines that begin with a space go on with the field.
    const field = (key: string) =>
      new RegExp(`^${key}:[ \\t]*(.*(?:\\n[ \\t].*)*)`, 'mi').exec(stanza)?.[1]?.trimEnd() ?? ''
    const words = (key: string) => field(key).trim().split(/\s+/)
    const [uri] = words('URIs')
    if (uri && isDebian(uri) && words('Types').includes('deb') && field('Enabled') !== 'no')
      return { uri, signedBy: field('Signed-By') }
  }
  return null
}

/** A list of mirrors (apt-transport-mirror(1)) holds what the first of them does. */
function isDebian(uri: string): boolean {
  const list = /^mirror\+file:(?:\/\/)?(\/.*)/.exec(uri)?.[1]
  const mirror = list === undefined ? uri : /^[^#\s]\S*/m.exec(textOf(list))?.[0]
  return mirror !== undefined && /\/debian\/?$/.test(mirror)
}

/**
 * Package versions as dpkg sorts them, without an epoch, which kernels have none of: digits by value, `~` before the end
 * of a part, other characters after letters. Source: deb-version(7).
 */
export function compareDebian(a: string, b: string): number {
  const split = (version: string): string[] => [...(version.match(/\d+|\D+/g) ?? [])]
  const [left, right] = [split(a), split(b)]
  // Parts take turns; one that starts with digits has an empty first part.
  for (const parts of [left, right]) if (/^\d/.test(parts[0] ?? '')) parts.unshift('')
  for (let i = 0; i < Math.max(left.length, right.length); i++) {
    const [x, y] = [left[i] ?? '', right[i] ?? '']
    const difference = i % 2 === 1 ? Number(x) - Number(y) : compareText(x, y)
    if (difference !== 0) return difference
  }
  return 0
}

function compareText(a: string, b: string): number {
  const rank = (text: string, at: number) => {
    const char = text[at]
    if (char === undefined) return 0
    if (char === '~') return -1
    return /[a-zA-Z]/.test(char) ? char.charCodeAt(0) : char.charCodeAt(0) + 256
  }
  for (let i = 0; i < Math.max(a.length, b.length); i++) {
    const difference = rank(a, i) - rank(b, i)
    if (difference !== 0) return difference
  }
  return 0
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return (await readdir(folder)).sort()
  } catch (error) {
    if (isCode(error, 'ENOENT')) return []
    throw error
  }
}

function textOf(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch (error) {
    if (isCode(error, 'ENOENT')) return ''
    throw error
  }
}
