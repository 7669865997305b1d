// SPDX-License-Identifier: MIT

import type { FileDiff } from '../diff.js'
import type { Patch } from '../series.js'
import type { ModuleInfo } from './elf.js'
import type { Headers } from './headers.js'

/** Something that was compared. `refused` must not be loaded; `note` is what a person has to know. */
export interface Check {
  what: 'config' | 'compiler' | 'series' | 'symbols' | 'vermagic' | 'btf' | 'signature'
  result: 'ok' | 'note' | 'refused'
  /** One sentence. */
  text: string
}

const overlayfs = 'fs/overlayfs/'

/** The part of a series that a module is built from: files of overlayfs and headers. The others document and test it. */
export function modulePatches(patches: Patch[]): Patch[] {
  const relevant = (diff: FileDiff) => /^(fs|include)\//.test(pathOf(diff))
  return patches
    .map((patch) => ({ ...patch, diffs: patch.diffs.filter(relevant) }))
    .filter((patch) => patch.diffs.length > 0)
}

export const pathOf = (diff: FileDiff) => (diff.newPath ?? diff.oldPath)!

/** True for what goes into the module's own tree: overlayfs, and headers that the series brings along. */
export function isInside(diff: FileDiff): boolean {
  return pathOf(diff).startsWith(overlayfs) || (diff.oldPath === null && pathOf(diff).startsWith('include/'))
}

const added = (diff: FileDiff) =>
  diff.hunks.flatMap((hunk) => hunk.lines.filter((line) => line[0] === '+').map((line) => line.slice(1)))

/**
 * Whether a series can be in a module: what it changes outside overlayfs is part of the kernel itself. A definition that is
 * added there can be made by `compat`, a header of the module; nothing else can.
 */
export function checkSeries(patches: Patch[], compat: string): Check[] {
  const checks: Check[] = []
  for (const patch of patches) {
    for (const diff of patch.diffs.filter((diff) => !isInside(diff))) {
      const lines = added(diff).filter((line) => line.trim() !== '')
      const names = lines.map((line) => /^\s*#\s*define\s+(\w+)/.exec(line)?.[1])
      const removes = diff.hunks.some((hunk) => hunk.lines.some((line) => line[0] === '-'))
      const missing = names.find((name) => !name || !new RegExp(`^#define ${name}\\b`, 'm').test(compat))
      const where = `${patch.name.split('-')[0]} ${patch.subject}: ${pathOf(diff)}`
      if (removes || names.includes(undefined) || missing !== undefined)
        checks.push({ what: 'series', result: 'refused', text: `${where} is part of the kernel itself` })
      else
        checks.push({
          what: 'series',
          result: 'note',
          text: `${where}: the module defines ${names.join(', ')}`,
        })
    }
  }
  if (checks.length === 0)
    checks.push({ what: 'series', result: 'ok', text: 'changes nothing but overlayfs' })
  return checks
}

/** Whether this kernel can take another overlayfs at all, and what its configuration asks for. */
export function checkConfig(patches: Patch[], config: Map<string, string>): Check[] {
  const refused: string[] = []
  const notes: string[] = []
  if (config.get('MODULES') !== 'y') refused.push('the kernel loads no modules (CONFIG_MODULES)')
  const stock = config.get('OVERLAY_FS')
  if (stock === 'y') refused.push('overlayfs is built into the kernel: only another kernel can replace it')
  if (stock === undefined) notes.push('the kernel was built without overlayfs')
  for (const layout of ['RANDSTRUCT_FULL', 'RANDSTRUCT_PERFORMANCE'])
    if (config.get(layout) === 'y') refused.push(`structures are laid out at random (CONFIG_${layout})`)
  const kconfig = patches.flatMap((patch) => patch.diffs).filter((diff) => pathOf(diff).endsWith('/Kconfig'))
  for (const line of kconfig.flatMap(added)) {
    const selected = /^\s*select (\w+)$/.exec(line)?.[1]
    if (selected !== undefined && config.get(selected) !== 'y')
      refused.push(`the series needs CONFIG_${selected}, which the kernel was built without`)
    const option = /^(?:menu)?config (\w+)/.exec(line)?.[1]
    if (option !== undefined) refused.push(`the series adds CONFIG_${option}, which the kernel does not have`)
  }
  const checks: Check[] = [
    ...refused.map((text): Check => ({ what: 'config', result: 'refused', text })),
    ...notes.map((text): Check => ({ what: 'config', result: 'note', text })),
  ]
  if (checks.length === 0) checks.push({ what: 'config', result: 'ok', text: 'overlayfs is a module there' })
  return [...checks, checkSignature(config)]
}

function checkSignature(config: Map<string, string>): Check {
  const what = 'signature' as const
  if (config.get('MODULE_SIG_FORCE') === 'y')
    return { what, result: 'note', text: 'the kernel loads signed modules only: this one is not signed' }
  if (config.get('MODULE_SIG') === 'y')
    return {
      what,
      result: 'note',
      text: 'not signed: taints the kernel, and is not loaded where Secure Boot locks it down',
    }
  return { what, result: 'ok', text: 'the kernel asks for none' }
}

/**
 * Kernel and module have to be made by one major version: the options that the headers ask for come with it.
 *
 * @param have the version of the compiler here, null when it is not there
 */
export function checkCompiler(config: Map<string, string>, have: string | null): Check {
  const wanted = /\bgcc\b.*\s(\d+)\.\d+\.\d+$/.exec(config.get('CC_VERSION_TEXT') ?? '')?.[1]
  if (wanted === undefined)
    return { what: 'compiler', result: 'refused', text: `not made by gcc: ${config.get('CC_VERSION_TEXT')}` }
  if (have?.split('.')[0] === wanted) return { what: 'compiler', result: 'ok', text: `gcc ${have}` }
  return {
    what: 'compiler',
    result: 'refused',
    text: `the kernel was made by gcc ${wanted}, here is ${have ? `gcc ${have}` : 'none'}: install gcc-${wanted}`,
  }
}

/** A built module against the kernel that it is for. */
export function checkModule(
  built: ModuleInfo,
  headers: Headers,
  patches: Patch[],
  stock: ModuleInfo | null,
): Check[] {
  return [...checkSymbols(built, headers, patches), checkVermagic(built, headers.release, stock)]
}

function checkSymbols(built: ModuleInfo, headers: Headers, patches: Patch[]): Check[] {
  const refused: string[] = []
  const imported = new Set(built.modinfo.filter(([key]) => key === 'import_ns').map(([, value]) => value))
  for (const name of built.undefined) {
    const symbol = headers.symbols.get(name)
    if (!symbol) {
      const by = patches.find((patch) => patch.diffs.flatMap(added).some((line) => uses(line, name)))
      refused.push(
        `${name} is not exported by the kernel${by ? `: ${by.name.split('-')[0]} ${by.subject} cannot be in a module` : ''}`,
      )
      continue
    }
    const crc = built.versions.get(name)
    if (headers.config.get('MODVERSIONS') === 'y' && crc !== symbol.crc)
      refused.push(`${name} has another type in the kernel`)
    if (!mayUse(symbol.namespace, imported))
      refused.push(`${name} is in the namespace ${symbol.namespace}, which the module does not import`)
  }
  if (refused.length > 0) return refused.map((text) => ({ what: 'symbols', result: 'refused', text }))
  const how = headers.config.get('MODVERSIONS') === 'y' ? 'exported, with the same types' : 'exported'
  return [{ what: 'symbols', result: 'ok', text: `${built.undefined.length} ${how}` }]
}

/** A namespace `module:a,b*` is open to modules of these names, without an import. Source: symbol-namespaces.rst, 6.16. */
function mayUse(namespace: string, imported: Set<string>): boolean {
  if (namespace === '' || imported.has(namespace)) return true
  const names = namespace.startsWith('module:') ? namespace.slice('module:'.length).split(',') : []
  return names.some((name) =>
    name.endsWith('*') ? 'overlay'.startsWith(name.slice(0, -1)) : name === 'overlay',
  )
}

const uses = (line: string, name: string) => new RegExp(`\\b${name}\\b`).test(line)

function checkVermagic(built: ModuleInfo, release: string, stock: ModuleInfo | null): Check {
  const magic = (info: ModuleInfo) => info.modinfo.find(([key]) => key === 'vermagic')?.[1] ?? ''
  const own = magic(built)
  const what = 'vermagic' as const
  if (own.split(' ')[0] !== release)
    return { what, result: 'refused', text: `"${own}" is not of Linux ${release}` }
  if (stock && magic(stock) !== own)
    return { what, result: 'refused', text: `"${own}", the module of the distribution has "${magic(stock)}"` }
  return { what, result: 'ok', text: own.trim() }
}

/**
 * Types for BPF. A module without them is loaded all the same; one with types of another kernel is not.
 *
 * @param base the types that the headers have of their kernel
 * @param running those of the running kernel, when it is the one that the module is for
 */
export function checkBtf(
  built: ModuleInfo,
  wanted: boolean,
  base: Buffer | null,
  running: Buffer | null,
): Check {
  const what = 'btf' as const
  if (running && base && !running.equals(base))
    return { what, result: 'refused', text: 'the headers are of another build than the running kernel' }
  if (built.btf) {
    if (!base) return { what, result: 'refused', text: 'the module has types, of a kernel that is not known' }
    return { what, result: 'ok', text: 'made from those of the kernel' }
  }
  if (!wanted) return { what, result: 'ok', text: 'the kernel has none for modules' }
  const why = base ? 'pahole is not installed or too old' : 'the headers have no vmlinux'
  return { what, result: 'note', text: `none (${why}): BPF programs cannot attach to functions of overlayfs` }
}
