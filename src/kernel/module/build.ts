// SPDX-License-Identifier: MIT

import { createHash } from 'node:crypto'
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { availableParallelism, release as runningRelease } from 'node:os'
import { dirname } from 'node:path'
import { LowerwatchError } from '../../errors.js'
import { ensureDirectory, readRecord, writeRecord } from '../cache.js'
import { judge } from '../inspect.js'
import { withLock } from '../lock.js'
import { type Patch, patchesDirectory } from '../series.js'
import { output, requireTools } from '../tools.js'
import { isCode, Workspace } from '../workspace.js'
import {
  type Check,
  checkBtf,
  checkCompiler,
  checkConfig,
  checkModule,
  checkSeries,
  isInside,
  modulePatches,
} from './checks.js'
import { type ModuleInfo, readModule } from './elf.js'
import { plainOptions } from './environment.js'
import type { Headers } from './headers.js'
import { includedBeside, type ModuleSource } from './source.js'
import type { Target } from './target.js'

/** A module in the cache. */
export interface ModuleBuild {
  release: string
  /** Point release of the sources. */
  source: string
  module: string
  sha256: string
  checks: Check[]
  /** False when it was in the cache. */
  fresh: boolean
  seconds: number
}

type Record = Omit<ModuleBuild, 'fresh'>

/** Which files of a module's tree are made, and what can be said before one is built. */
export interface ModulePlan {
  files: Map<string, string>
  checks: Check[]
  compiler: string
  /** Types for BPF: whether the kernel has them for modules, whether they can be made here, those of the kernel itself. */
  types: { wanted: boolean; make: boolean; base: Buffer | null }
  /** Names the build: sources, series, headers, compiler, types. */
  key: string
}

/**
 * The sources of a patched overlayfs module. The tree is laid out as the kernel's, so that includes of files beside find
 * them: fs/overlayfs with the series, what it includes of fs/, and headers that the series brings along.
 *
 * @throws LowerwatchError KERNEL when the series does not apply
 */
export async function planModule(
  source: ModuleSource,
  series: Patch[],
  headers: Headers,
  directory = patchesDirectory,
): Promise<ModulePlan> {
  const patches = modulePatches(series)
  const compat = await readFile(`${directory}/module/compat.h`, 'latin1')
  const wanted = /gcc.* (\d+)\./.exec(headers.config.get('CC_VERSION_TEXT') ?? '')?.[1]
  const { compiler, version } = await findCompiler(wanted)
  const checks = [
    ...checkSeries(patches, compat),
    ...checkConfig(patches, headers.config),
    checkCompiler(headers.config, version),
  ]
  const patched = new Workspace(source.tree)
  for (const patch of patches) {
    const inside = { ...patch, diffs: patch.diffs.filter(isInside) }
    if (inside.diffs.length === 0) continue
    const { state, conflicts } = await judge(patched, inside)
    if (state === 'applies') continue
    const [conflict] = conflicts
    throw new LowerwatchError('KERNEL', `${patch.name} does not apply to Linux ${source.release}`, {
      hint: conflict ? `${conflict.file}, hunk ${conflict.hunk}: ${conflict.why}` : 'it is in there already',
    })
  }
  const files = new Map<string, string>()
  const names = await readdir(`${source.tree}/fs/overlayfs`)
  const stock = names.filter((name) => /\.[ch]$|^Makefile$/.test(name)).map((name) => `fs/overlayfs/${name}`)
  for (const path of [...new Set([...stock, ...patched.changed()])].sort()) {
    const text = await patched.read(path)
    if (text !== null) files.set(path, text)
  }
  for (const [path, text] of await includedBeside(files, source.tree)) files.set(path, text)
  files.set('include/compat.h', compat)
  const makefile = files.get('fs/overlayfs/Makefile') ?? ''
  // $(srctree) is that of the headers, and $(src) is relative to it before 6.13.
  const flags = '-I$(LOWERWATCH_MODULE)/include -include $(LOWERWATCH_MODULE)/include/compat.h'
  files.set('fs/overlayfs/Makefile', `${makefile}\nccflags-y += ${flags}\n`)
  const types = await typesWanted(headers)
  const hash = createHash('sha256').update(`${version}\n${types.make}\n`)
  for (const [path, text] of files) hash.update(`${path}\0${text.length}\0${text}`, 'latin1')
  for (const name of ['.config', 'Module.symvers'])
    hash.update(await readFile(`${headers.directory}/${name}`))
  return { files, checks, compiler, types, key: hash.digest('hex').slice(0, 12) }
}

/** @throws LowerwatchError UNSUPPORTED_KERNEL with the first reason */
export function refuse(checks: Check[], release: string): void {
  const refused = checks.filter(({ result }) => result === 'refused')
  if (refused.length === 0) return
  const more = refused.length > 1 ? ` (and ${refused.length - 1} more)` : ''
  throw new LowerwatchError('UNSUPPORTED_KERNEL', `no overlay module for Linux ${release}`, {
    hint: `${refused[0]!.what}: ${refused[0]!.text}${more}`,
  })
}

/**
 * Builds the module, or finds it in the cache. It is complete when every check was passed.
 *
 * @throws LowerwatchError UNSUPPORTED_KERNEL (a mismatch), KERNEL (make failed)
 */
export async function buildModule(
  plan: ModulePlan,
  source: ModuleSource,
  series: Patch[],
  headers: Headers,
  note: (line: string) => void,
  root: string,
): Promise<ModuleBuild> {
  refuse(plan.checks, headers.release)
  const entry = `${root}/module/${headers.release}-${plan.key}`
  await ensureDirectory(`${root}/module`)
  return withLock(
    `${entry}.lock`,
    () => note('another process builds it, waiting'),
    async () => {
      const known = await readRecord<Record>(entry)
      if (known) return { ...known, fresh: false }
      const startedAt = Date.now()
      note(`building overlay.ko for Linux ${headers.release}`)
      await rm(entry, { recursive: true, force: true })
      for (const [path, text] of plan.files) {
        await mkdir(dirname(`${entry}/${path}`), { recursive: true })
        await writeFile(`${entry}/${path}`, text, 'latin1')
      }
      const { types } = plan
      await make(entry, headers, plan.compiler, types.make)
      const module = `${entry}/fs/overlayfs/overlay.ko`
      // Types are a section of their own and stay.
      await output('strip', ['--strip-debug', module])
      const bytes = await readFile(module)
      const built = readModule(bytes, module)
      const checks = [
        ...plan.checks,
        ...checkModule(
          built,
          headers,
          modulePatches(series),
          await stockModule(stockFolder(headers.release)),
        ),
        checkBtf(built, types.wanted, types.base, await runningTypes(headers.release)),
      ]
      refuse(checks, headers.release)
      const record: Record = {
        release: headers.release,
        source: source.release,
        module,
        sha256: createHash('sha256').update(bytes).digest('hex'),
        checks,
        seconds: (Date.now() - startedAt) / 1000,
      }
      await writeRecord(entry, record)
      return { ...record, fresh: true }
    },
  )
}

/**
 * What may have changed since a module was built: the kernel that runs, and the module that the distribution made.
 */
export async function recheck(
  { built, headers, series }: { built: ModuleBuild; headers: Headers; series: Patch[] },
  target: Target,
): Promise<Check[]> {
  const bytes = await readFile(built.module)
  const info = readModule(bytes, built.module)
  const base = await bytesOf(`${headers.directory}/vmlinux`)
  const running = target.own ? await runningTypes(headers.release) : null
  const folder = await target.path(stockFolder(headers.release))
  const checks = [
    ...checkModule(info, headers, modulePatches(series), await stockModule(folder)),
    checkBtf(info, true, base && readModule(base, 'vmlinux').btf, running),
  ]
  if (createHash('sha256').update(bytes).digest('hex') !== built.sha256)
    checks.push({ what: 'symbols', result: 'refused', text: `${built.module} is not what was built` })
  return checks.filter(({ result }) => result === 'refused')
}

async function make(entry: string, headers: Headers, compiler: string, types: boolean): Promise<void> {
  const { execa } = await import('execa')
  const result = await execa(
    'make',
    [
      `-j${availableParallelism()}`,
      '-C',
      headers.directory,
      `M=${entry}/fs/overlayfs`,
      `LOWERWATCH_MODULE=${entry}`,
      `CC=${compiler}`,
      'CONFIG_OVERLAY_FS=m',
      // What the kernel does not export is said below, with the patch that wants it.
      'KBUILD_MODPOST_WARN=1',
      ...(types ? [] : ['CONFIG_DEBUG_INFO_BTF_MODULES=']),
      'modules',
    ],
    { reject: false, stdin: 'ignore', all: true, ...plainOptions() },
  )
  await writeFile(`${entry}.log`, result.all)
  if (!result.failed) return
  const line: string =
    result.all.split('\n').find((text) => /\berror\b/i.test(text)) ?? result.shortMessage ?? ''
  throw new LowerwatchError('KERNEL', `make failed: ${line.replace(`${entry}/`, '')}`, {
    hint: `see ${entry}.log`,
  })
}

async function typesWanted(headers: Headers): Promise<ModulePlan['types']> {
  const wanted = headers.config.get('DEBUG_INFO_BTF_MODULES') === 'y'
  const vmlinux = await bytesOf(`${headers.directory}/vmlinux`)
  const base = vmlinux && readModule(vmlinux, `${headers.directory}/vmlinux`).btf
  const pahole = wanted && base ? await versionFrom('pahole', ['--version']) : null
  // Its options are those of the version that the kernel was made with: 1.24 is 124.
  const number = pahole ? Number(/(\d+)\.(\d+)/.exec(pahole)?.slice(1, 3).join('') ?? 0) : 0
  return { wanted, make: number > 0 && number >= Number(headers.config.get('PAHOLE_VERSION') ?? 0), base }
}

async function runningTypes(release: string): Promise<Buffer | null> {
  return release === runningRelease() ? bytesOf('/sys/kernel/btf/vmlinux') : null
}

const stockFolder = (release: string) => `/lib/modules/${release}/kernel/fs/overlayfs`

/** The module that the distribution made for this kernel, where it is installed. */
async function stockModule(folder: string): Promise<ModuleInfo | null> {
  const path = `${folder}/overlay.ko`
  const plain = await bytesOf(path)
  if (plain) return readModule(plain, path)
  for (const [suffix, program] of [
    ['xz', 'xz'],
    ['gz', 'gzip'],
    ['zst', 'zstd'],
  ] as const) {
    if (!(await bytesOf(`${path}.${suffix}`))) continue
    await requireTools(program)
    const { execa } = await import('execa')
    const { stdout } = await execa(program, ['-dc', `${path}.${suffix}`], { encoding: 'buffer' })
    return readModule(Buffer.from(stdout), path)
  }
  return null
}

async function findCompiler(
  major: string | undefined,
): Promise<{ compiler: string; version: string | null }> {
  for (const compiler of major === undefined ? ['gcc'] : [`gcc-${major}`, 'gcc']) {
    const version = await versionFrom(compiler, ['-dumpfullversion'])
    if (version !== null) return { compiler, version }
  }
  return { compiler: 'gcc', version: null }
}

/** What a program says of itself, null when it is not installed. */
async function versionFrom(program: string, args: string[]): Promise<string | null> {
  const { execa } = await import('execa')
  const result = await execa(program, args, { reject: false, stdin: 'ignore' })
  return result.failed ? null : result.stdout.trim()
}

async function bytesOf(path: string): Promise<Buffer | null> {
  try {
    return await readFile(path)
  } catch (error) {
    if (isCode(error, 'ENOENT', 'ENOTDIR')) return null
    throw error
  }
}
