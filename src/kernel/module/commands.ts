// SPDX-License-Identifier: MIT

import { readFile } from 'node:fs/promises'
import { release as runningRelease } from 'node:os'
import { Archive } from '../apt.js'
import { cacheRoot, listRecords, readRecord } from '../cache.js'
import { choosePatches } from '../select.js'
import { requireTools } from '../tools.js'
import { isCode } from '../workspace.js'
import { buildModule, type ModuleBuild, planModule } from './build.js'
import type { Check } from './checks.js'
import { fetchHeaders, findHeaders } from './headers.js'
import { moduleSource, versionOf } from './source.js'

const say = (line: string) => void process.stdout.write(`${line}\n`)
const note = (line: string) => void process.stderr.write(`${line}\n`)

interface ModuleOptions {
  release?: string
  tree?: string
  json?: boolean
}

/** Builds overlay.ko with the overlayfs series for a kernel, or finds it in the cache. Nothing is installed. */
export async function build(options: ModuleOptions): Promise<void> {
  const done = await obtainModule(options)
  if (options.json) return say(JSON.stringify(done, null, 2))
  for (const line of done.checks.map(describeCheck)) note(line)
  say(done.module)
}

/** The module that the options ask for, from the cache where it is there. */
export async function obtainModule(options: ModuleOptions, root = cacheRoot()): Promise<ModuleBuild> {
  await requireTools('make', 'gcc', 'strip', 'dpkg-deb')
  const release = options.release ?? runningRelease()
  // First of all: is there a series for it?
  const series = await choosePatches(versionOf(release), 'overlayfs')
  let opened: Archive | null = null
  const archive = async () => {
    opened ??= await Archive.open(root, note)
    return opened
  }
  const headers =
    (await findHeaders(release, root)) ?? (await fetchHeaders(release, await archive(), note, root))
  const source = await moduleSource(headers, series, { tree: options.tree, archive, note, root })
  const plan = await planModule(source, series, headers)
  return buildModule(plan, source, series, headers, note, root)
}

export interface ModuleStatus {
  release: string
  running: boolean
  /** Where the headers are; null when they would have to be fetched. */
  headers: { directory: string; origin: 'installed' | 'cache'; packageVersion: string } | null
  /** What overlayfs is in this kernel, by the headers. */
  overlayfs: 'module' | 'built in' | 'absent' | 'unknown'
  /** Of the running kernel only: what is loaded, and the mounts that hold it. */
  loaded: 'stock' | 'patched' | 'none' | null
  mounts: string[]
  /** Modules in the cache for this release. */
  built: { module: string; source: string; sha256: string }[]
}

export async function status(options: ModuleOptions): Promise<void> {
  const found = await moduleStatus(options.release ?? runningRelease())
  if (options.json) return say(JSON.stringify(found, null, 2))
  const { release, headers } = found
  say(`Linux ${release}${found.running ? ', running' : ''}`)
  say(
    `  headers:   ${headers ? `${headers.directory} (${headers.origin})` : 'not here; "kernel module build" fetches them'}`,
  )
  say(`  overlayfs: ${found.overlayfs === 'unknown' ? 'unknown without the headers' : found.overlayfs}`)
  if (found.loaded !== null) {
    say(`  loaded:    ${found.loaded === 'none' ? 'not as a module' : found.loaded}`)
    for (const mount of found.mounts) say(`  mounted:   ${mount}`)
  }
  if (found.built.length === 0) say('  built:     none')
  for (const { module, source } of found.built) say(`  built:     ${module} (Linux ${source})`)
}

export async function moduleStatus(release: string, root = cacheRoot()): Promise<ModuleStatus> {
  const running = release === runningRelease()
  const headers = await findHeaders(release, root)
  const words = new Map([
    ['m', 'module'],
    ['y', 'built in'],
  ] as const)
  const option = headers?.config.get('OVERLAY_FS') as 'm' | 'y' | undefined
  const built: ModuleStatus['built'] = []
  for (const entry of await listRecords(`${root}/module`)) {
    const record = await readRecord<ModuleBuild>(entry)
    if (record?.release !== release) continue
    built.push({ module: record.module, source: record.source, sha256: record.sha256 })
  }
  return {
    release,
    running,
    headers: headers && {
      directory: headers.directory,
      origin: headers.origin,
      packageVersion: headers.packageVersion,
    },
    overlayfs: headers === null ? 'unknown' : option === undefined ? 'absent' : words.get(option)!,
    loaded: running ? await loadedModule() : null,
    mounts: running ? await overlayMounts() : [],
    built,
  }
}

/** A module that is built in has no initstate; the series adds a parameter. */
async function loadedModule(): Promise<'stock' | 'patched' | 'none'> {
  if ((await textOf('/sys/module/overlay/initstate')) === null) return 'none'
  return (await textOf('/sys/module/overlay/parameters/lower_changes')) === null ? 'stock' : 'patched'
}

/** Mount points of overlays in this mount namespace, as /proc/self/mountinfo writes them: proc_pid_mountinfo(5). */
async function overlayMounts(): Promise<string[]> {
  const text = (await textOf('/proc/self/mountinfo')) ?? ''
  return text
    .split('\n')
    .filter((line) => / - overlay /.test(line))
    .map((line) => line.split(' ')[4]!)
}

const results = { ok: 'ok     ', note: 'note   ', refused: 'refused' } as const

export function describeCheck({ what, result, text }: Check): string {
  return `${results[result]} ${what.padEnd(9)} ${text}`
}

async function textOf(path: string): Promise<string | null> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    if (isCode(error, 'ENOENT')) return null
    throw error
  }
}
