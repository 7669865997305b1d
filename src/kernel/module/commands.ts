// SPDX-License-Identifier: MIT

import { randomBytes } from 'node:crypto'
import { constants } from 'node:fs'
import { copyFile, rename, rm } from 'node:fs/promises'
import { release as runningRelease } from 'node:os'
import { LowerwatchError } from '../../errors.js'
import { Archive } from '../apt.js'
import { cacheRoot, listRecords, readRecord } from '../cache.js'
import { choosePatches } from '../select.js'
import type { Patch } from '../series.js'
import { requireTools } from '../tools.js'
import { buildModule, type ModuleBuild, planModule } from './build.js'
import type { Check } from './checks.js'
import { cleanEnvironment } from './environment.js'
import { fetchHeaders, findHeaders, type Headers } from './headers.js'
import { type Loaded, loadedModule } from './loaded.js'
import { secureCache, secureForRoot } from './secure.js'
import { checkRelease, moduleSource, pointOfHeaders, versionOf } from './source.js'
import { type Installed, Target } from './target.js'
import { describeUse, type ModuleUse, moduleUse } from './users.js'

const say = (line: string) => void process.stdout.write(`${line}\n`)
const note = (line: string) => void process.stderr.write(`${line}\n`)

export interface ModuleOptions {
  release?: string
  tree?: string
  json?: boolean
}

/** Builds overlay.ko with the overlayfs series for a kernel, or finds it in the cache. Nothing is installed. */
export async function build(options: ModuleOptions & { output?: string }): Promise<void> {
  cleanEnvironment()
  const done = await obtainModule(options)
  if (options.output !== undefined) await putCopy(done.module, options.output)
  if (options.json) return say(JSON.stringify(done, null, 2))
  for (const line of done.checks.map(describeCheck)) note(line)
  say(done.module)
}

/** Puts a copy where there is another file, or a link: that is replaced, and what it leads to is not written to. */
export async function putCopy(from: string, to: string): Promise<void> {
  const beside = `${to}.${randomBytes(8).toString('hex')}`
  try {
    await copyFile(from, beside, constants.COPYFILE_EXCL)
    await rename(beside, to)
  } finally {
    await rm(beside, { force: true })
  }
}

/** A module, and what it was made for and from. */
export interface Obtained {
  built: ModuleBuild
  headers: Headers
  series: Patch[]
}

/** The module that the options ask for, from the cache where it is there. */
export async function obtainModule(options: ModuleOptions, root = cacheRoot()): Promise<ModuleBuild> {
  return (await obtainFor(options, root)).built
}

export async function obtainFor(options: ModuleOptions, root = cacheRoot()): Promise<Obtained> {
  const release = options.release ?? runningRelease()
  // First of all: is there a series for it?
  await choosePatches(versionOf(release), 'overlayfs')
  await requireTools('make', 'gcc', 'strip', 'dpkg-deb')
  await secureCache(root)
  let opened: Archive | null = null
  const archive = async () => {
    opened ??= await Archive.open(root, note)
    return opened
  }
  const headers =
    (await findHeaders(release, root)) ?? (await fetchHeaders(release, await archive(), note, root))
  await secureForRoot(headers.directory, 'make would run what is there as root')
  const series = await choosePatches(pointOfHeaders(headers), 'overlayfs')
  const source = await moduleSource(headers, series, { tree: options.tree, archive, note, root })
  const plan = await planModule(source, series, headers)
  return { built: await buildModule(plan, source, series, headers, note, root), headers, series }
}

export interface ModuleStatus {
  release: string
  running: boolean
  /** Where the headers are; null when they would have to be fetched. */
  headers: { directory: string; origin: 'installed' | 'cache'; packageVersion: string } | null
  /** What overlayfs is in this kernel, by the headers. */
  overlayfs: 'module' | 'built in' | 'absent' | 'unknown'
  /** Of the running kernel only: what is loaded, and what holds it. */
  loaded: Loaded | null
  use: ModuleUse | null
  /** What "install" has put there. */
  installed: Installed | null
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
    for (const line of found.use ? describeUse(found.use) : []) say(`  in use:    ${line}`)
  }
  const { installed } = found
  say(
    `  installed: ${installed ? `${installed.module} (${installed.method}, Linux ${installed.source})` : 'no'}`,
  )
  if (found.built.length === 0) say('  built:     none')
  for (const { module, source } of found.built) say(`  built:     ${module} (Linux ${source})`)
}

export async function moduleStatus(release: string, root = cacheRoot()): Promise<ModuleStatus> {
  const running = checkRelease(release) === runningRelease()
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
    use: running && (await loadedModule()) !== 'none' ? await moduleUse() : null,
    installed: await installedFor(release),
    built,
  }
}

async function installedFor(release: string): Promise<Installed | null> {
  try {
    return await (await Target.open('/', release)).installed()
  } catch (error) {
    // There is no such kernel on this machine.
    if (error instanceof LowerwatchError && error.code === 'KERNEL') return null
    throw error
  }
}

const results = { ok: 'ok     ', note: 'note   ', refused: 'refused' } as const

export function describeCheck({ what, result, text }: Check): string {
  return `${results[result]} ${what.padEnd(9)} ${text}`
}
