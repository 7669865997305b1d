// SPDX-License-Identifier: MIT

import { execFileSync } from 'node:child_process'
import { lstat, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it, vi } from 'vitest'
import { buildModule, planModule, refuse } from '../../../src/kernel/module/build.js'
import {
  checkBtf,
  checkCompiler,
  checkConfig,
  checkModule,
  checkSeries,
  modulePatches,
} from '../../../src/kernel/module/checks.js'
import { putCopy } from '../../../src/kernel/module/commands.js'
import { readModule } from '../../../src/kernel/module/elf.js'
import { type Headers, parseConfig, parseSymvers } from '../../../src/kernel/module/headers.js'
import { includedBeside, moduleSource, pointOf } from '../../../src/kernel/module/source.js'
import { loadFolders, loadSeries, patchesDirectory, versions } from '../../../src/kernel/series.js'
import { five, makeTree, numbers, patch } from './fixture.js'

const compat = await readFile(`${patchesDirectory}/module/compat.h`, 'latin1')
const config = (text: string) => parseConfig(`CONFIG_MODULES=y\n${text}`)
const fit = 'CONFIG_OVERLAY_FS=m\nCONFIG_FSNOTIFY=y\n'
const refused = (checks: { result: string; text: string }[]) =>
  checks.filter(({ result }) => result === 'refused').map(({ text }) => text)

/** A diff that adds lines to a file that is there. */
const adds = (path: string, ...lines: string[]) =>
  `diff --git a/${path} b/${path}\n--- a/${path}\n+++ b/${path}\n@@ -1,2 +1,${2 + lines.length} @@\n 1\n${lines.map((line) => `+${line}\n`).join('')} 2\n`

describe('a series that is to be a module', () => {
  it('is possible for each version: what is not in overlayfs, compat.h defines', async () => {
    for (const version of await versions()) {
      for (const { series, patches } of await loadFolders(version)) {
        if (series !== 'overlayfs') continue
        const checks = checkSeries(modulePatches(patches), compat)
        expect(refused(checks)).toEqual([])
        expect(checks.map(({ text }) => text)).toEqual([
          expect.stringMatching(/SB_I_NOTIFY_ALL: include.*: the module defines SB_I_NOTIFY_ALL$/),
        ])
      }
    }
  })

  it('leaves documentation and tests out', async () => {
    const names = modulePatches(await loadSeries('7.2', 'overlayfs')).flatMap((p) =>
      p.diffs.map((d) => d.newPath),
    )
    expect(names).toContain('fs/overlayfs/follow.c')
    expect(names.filter((name) => !/^(fs|include)\//.test(name!))).toEqual([])
  })

  it('is refused with the patch and the file when it changes the kernel itself', () => {
    for (const diff of [
      adds('fs/notify/mark.c', 'int x;'),
      adds('include/linux/fs.h', '#define SOMETHING 1'),
      adds('include/linux/fs.h', '#define SB_I_NOTIFY_ALL 1', 'extern int x;'),
    ])
      expect(refused(checkSeries([patch('0003-x.patch', diff)], compat))).toEqual([
        expect.stringMatching(/^0003 do 0003-x\.patch: \S+ is part of the kernel itself$/),
      ])
    expect(
      refused(checkSeries([patch('0003-x.patch', five.replaceAll('file', 'fs/file'))], compat)),
    ).toHaveLength(1)
  })
})

describe('the configuration of a kernel', () => {
  it('has to have overlayfs as a module, and what the series selects', async () => {
    const series = modulePatches(await loadSeries('7.2', 'overlayfs'))
    expect(refused(checkConfig(series, config(fit)))).toEqual([])
    expect(refused(checkConfig(series, config('CONFIG_OVERLAY_FS=y\nCONFIG_FSNOTIFY=y\n')))).toEqual([
      'overlayfs is built into the kernel: only another kernel can replace it',
    ])
    expect(refused(checkConfig(series, config('CONFIG_OVERLAY_FS=m\n')))).toEqual([
      'the series needs CONFIG_FSNOTIFY, which the kernel was built without',
    ])
    expect(refused(checkConfig(series, parseConfig(fit)))).toEqual([
      'the kernel loads no modules (CONFIG_MODULES)',
    ])
    expect(refused(checkConfig(series, config(`${fit}CONFIG_RANDSTRUCT_FULL=y\n`)))).toHaveLength(1)
  })

  it('says what a module that is not signed meets', () => {
    const signature = (text: string) =>
      checkConfig([], config(fit + text)).find((c) => c.what === 'signature')!
    expect(signature('')).toMatchObject({ result: 'ok' })
    expect(signature('CONFIG_MODULE_SIG=y\n').text).toMatch(/taints/)
    expect(signature('CONFIG_MODULE_SIG=y\nCONFIG_MODULE_SIG_FORCE=y\n').text).toMatch(/signed modules only/)
  })

  it('names the compiler that is missing', () => {
    const made = config('CONFIG_CC_VERSION_TEXT="x86_64-linux-gnu-gcc-14 (Debian 14.2.0-19) 14.2.0"\n')
    expect(checkCompiler(made, '14.3.0')).toMatchObject({ result: 'ok' })
    expect(checkCompiler(made, '12.2.0')).toMatchObject({
      result: 'refused',
      text: 'the kernel was made by gcc 14, here is gcc 12.2.0: install gcc-14',
    })
    expect(checkCompiler(made, null).text).toMatch(/install gcc-14/)
    const clang = config('CONFIG_CC_VERSION_TEXT="Debian clang version 19.1.7"\n')
    expect(checkCompiler(clang, '14.2.0').result).toBe('refused')
  })
})

/** An object file with what the kernel looks at in a module. */
async function makeModule(source: string): Promise<Buffer> {
  const folder = await mkdtemp(join(tmpdir(), 'lowerwatch-module-'))
  try {
    await writeFile(`${folder}/m.c`, source)
    execFileSync('g++', ['-x', 'c', '-c', '-o', `${folder}/m.o`, `${folder}/m.c`])
    return await readFile(`${folder}/m.o`)
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

const moduleSourceText = `
#define INFO(n, text) __attribute__((section(".modinfo"), used)) static const char n[] = text;
INFO(a, "license=GPL")
INFO(b, "vermagic=6.12.95-x SMP mod_unload modversions ")
INFO(c, "import_ns=SOME_NS")
struct version { unsigned long crc; char name[56]; };
__attribute__((section("__versions"), used)) static const struct version v[] = {
  { 0x11111111, "known" }, { 0x22222222, "other" }, { 0x33333333, "spaced" }, { 0x44444444, "ours" } };
extern int known, other, spaced, ours;
int sum(void) { return known + other + spaced + ours; }
`
const headersOf = (symvers: string, options = 'CONFIG_MODVERSIONS=y\n'): Headers => ({
  release: '6.12.95-x',
  directory: '/nowhere',
  origin: 'cache',
  packageVersion: '',
  config: config(fit + options),
  symbols: parseSymvers(symvers),
})
const symvers =
  '0x11111111\tknown\tvmlinux\tEXPORT_SYMBOL\t\n' +
  '0x22222222\tother\tvmlinux\tEXPORT_SYMBOL_GPL\t\n' +
  '0x33333333\tspaced\tvmlinux\tEXPORT_SYMBOL_GPL\tSOME_NS\n' +
  '0x44444444\tours\tvmlinux\tEXPORT_SYMBOL_GPL\tmodule:over*,else\n'

describe('a built module', async () => {
  const built = readModule(await makeModule(moduleSourceText), 'm.o')

  it('is read: fields, symbols, checksums', () => {
    expect(built.modinfo).toContainEqual(['license', 'GPL'])
    expect(built.undefined).toEqual(['known', 'other', 'ours', 'spaced'])
    expect(built.versions.get('other')).toBe(0x22222222)
    expect(built.btf).toBeNull()
    expect(() => readModule(Buffer.from('#!/bin/sh\n'), 'x')).toThrow(/no 64-bit little-endian ELF/)
  })

  it('is taken when all that it needs is exported with the same types', () => {
    expect(checkModule(built, headersOf(symvers), [], null).map(({ result }) => result)).toEqual(['ok', 'ok'])
  })

  it('is refused for a symbol that is not exported, with the patch that wants it', () => {
    const series = [
      patch('0001-a.patch', five),
      patch('0002-b.patch', adds('fs/overlayfs/a.c', '\tx = known;')),
    ]
    const checks = checkModule(built, headersOf(symvers.slice(symvers.indexOf('0x2222'))), series, null)
    expect(refused(checks)).toEqual([
      'known is not exported by the kernel: 0002 do 0002-b.patch cannot be in a module',
    ])
  })

  it('is refused for another type, a foreign namespace, another kernel or another stock module', () => {
    const with_ = (a: string, b: string) =>
      refused(checkModule(built, headersOf(symvers.replace(a, b)), [], null))
    expect(with_('0x22222222', '0x22222223')).toEqual(['other has another type in the kernel'])
    expect(with_('SOME_NS', 'OTHER_NS')).toHaveLength(1)
    expect(with_('module:over*,else', 'module:else')).toHaveLength(1)
    const other = { ...headersOf(symvers), release: '6.12.96-x' }
    expect(refused(checkModule(built, other, [], null))).toEqual([
      '"6.12.95-x SMP mod_unload modversions " is not of Linux 6.12.96-x',
    ])
    const stock = { ...built, modinfo: [['vermagic', '6.12.95-x SMP preempt '] as [string, string]] }
    expect(refused(checkModule(built, headersOf(symvers), [], stock))).toHaveLength(1)
    expect(() => refuse(checkModule(built, other, [], null), other.release)).toThrow(
      expect.objectContaining({ code: 'UNSUPPORTED_KERNEL' }),
    )
  })

  it('needs no types, and none of another kernel', () => {
    const [a, b] = [Buffer.from('a'), Buffer.from('b')]
    expect(checkBtf(built, false, null, null).result).toBe('ok')
    expect(checkBtf(built, true, a, a)).toMatchObject({
      result: 'note',
      text: expect.stringMatching(/pahole/),
    })
    expect(checkBtf(built, true, a, b).result).toBe('refused')
    expect(checkBtf({ ...built, btf: a }, true, null, null).result).toBe('refused')
    expect(checkBtf({ ...built, btf: a }, true, b, b).result).toBe('ok')
  })
})

describe('the sources of a module', () => {
  const files = {
    'fs/overlayfs/Makefile': 'obj-$(CONFIG_OVERLAY_FS) += overlay.o\n',
    'fs/overlayfs/file.c': `#include "../internal.h"\n${numbers(20)}`,
    'fs/overlayfs/notes.txt': 'not source\n',
    'fs/internal.h': '#include "mount.h"\n',
    'fs/mount.h': 'int m;\n',
    'fs/other.c': 'int o;\n',
  }
  const makeHeaders = () =>
    makeTree({
      '.config': 'CONFIG_MODULES=y\nCONFIG_OVERLAY_FS=m\nCONFIG_CC_VERSION_TEXT="gcc 12.2.0"\n',
      'Module.symvers': symvers,
    })
  const changes = five.replaceAll('/file', '/fs/overlayfs/file.c')

  it('are overlayfs with the series, files beside that it includes, and the definitions of compat.h', async () => {
    await using tree = await makeTree(files)
    await using built = await makeHeaders()
    const headers = { ...headersOf(symvers), directory: built.root }
    const series = [
      patch('0001-a.patch', changes),
      patch('0002-b.patch', adds('Documentation/x.rst', 'text')),
      patch('0003-c.patch', adds('include/linux/fs.h', '#define SB_I_NOTIFY_ALL 0x10000')),
    ]
    const source = { tree: tree.root, release: '7.2.13' }
    const plan = await planModule(source, series, headers)
    expect([...plan.files.keys()].sort()).toEqual([
      'fs/internal.h',
      'fs/mount.h',
      'fs/overlayfs/Makefile',
      'fs/overlayfs/file.c',
      'include/compat.h',
    ])
    expect(plan.files.get('fs/overlayfs/file.c')).toContain('\n4\nfive\n6\n')
    expect(plan.files.get('fs/overlayfs/Makefile')).toMatch(/-include \S+\/compat\.h/)
    // Nothing else changes what is built.
    expect((await planModule(source, series, headers)).key).toBe(plan.key)
    await writeFile(`${built.root}/Module.symvers`, '')
    expect((await planModule(source, series, headers)).key).not.toBe(plan.key)
  })

  it('are refused when the series does not apply, with file, hunk and reason', async () => {
    await using tree = await makeTree({ ...files, 'fs/overlayfs/file.c': numbers(20, { 6: 'six' }) })
    await using built = await makeHeaders()
    const headers = { ...headersOf(symvers), directory: built.root }
    const source = { tree: tree.root, release: '7.2.13' }
    await expect(planModule(source, [patch('0001-a.patch', changes)], headers)).rejects.toMatchObject({
      code: 'KERNEL',
      line: '0001-a.patch does not apply to Linux 7.2.13: fs/overlayfs/file.c, hunk 1: line 6 is "six", the patch expects "6"',
    })
  })

  it('are of the point release of the kernel', async () => {
    await using tree = await makeTree(files)
    const options = {
      tree: tree.root,
      archive: () => Promise.reject(new Error('not asked for')),
      note: () => {},
      root: '',
    }
    const at = (release: string) => moduleSource({ ...headersOf(symvers), release }, [], options)
    await expect(at('7.2.13+deb14-amd64')).resolves.toMatchObject({ release: '7.2.13' })
    await expect(at('7.2.12+deb13-amd64')).rejects.toMatchObject({ code: 'USAGE' })
    const named = (packageVersion: string) =>
      moduleSource({ ...headersOf(symvers), release: '7.2.0-50-amd64', packageVersion }, [], options)
    await expect(named('7.2.13-1')).resolves.toMatchObject({ release: '7.2.13' })
    await expect(named('7.2.12-1')).rejects.toMatchObject({ code: 'USAGE' })
    expect(pointOf('7.2-custom')).toBe('7.2')
    expect(() => pointOf('7.2.13foo')).toThrow()
  })

  it('say which file beside is missing', async () => {
    const sources = new Map([['fs/overlayfs/a.c', '#include "../gone.h"\n']])
    await expect(includedBeside(sources, '/nowhere')).rejects.toThrow(/includes fs\/gone\.h/)
  })
})

it('a module is made of what names it, whatever variables its user has', async () => {
  await using headers = await makeTree({ Makefile: 'modules:\n\tenv > environment\n\tfalse\n' })
  const names = ['MAKEFLAGS', 'ARCH', 'O', 'LLVM', 'CROSS_COMPILE', 'KCFLAGS', 'KCPPFLAGS', 'HOSTCFLAGS']
  for (const name of names) vi.stubEnv(name, 'leaked')
  try {
    const types = { wanted: false, make: false, base: null }
    const plan = {
      files: new Map([['fs/overlayfs/a.c', '']]),
      checks: [],
      compiler: 'gcc',
      types,
      key: 'key',
    }
    const source = { tree: headers.root, release: '7.2.13' }
    const built = { ...headersOf(symvers), directory: headers.root }
    await expect(buildModule(plan, source, [], built, () => {}, headers.root)).rejects.toMatchObject({
      code: 'KERNEL',
    })
    expect(await readFile(`${headers.root}/environment`, 'utf8')).not.toContain('leaked')
  } finally {
    vi.unstubAllEnvs()
  }
})

it('a module is copied to where it is wanted, not to what a link there leads to', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'lowerwatch-module-'))
  try {
    for (const name of ['built.ko', 'victim']) await writeFile(`${folder}/${name}`, name)
    await symlink('victim', `${folder}/overlay.ko`)
    for (let run = 0; run < 2; run++) await putCopy(`${folder}/built.ko`, `${folder}/overlay.ko`)
    expect((await lstat(`${folder}/overlay.ko`)).isFile()).toBe(true)
    expect(await readFile(`${folder}/overlay.ko`, 'utf8')).toBe('built.ko')
    expect(await readFile(`${folder}/victim`, 'utf8')).toBe('victim')
    await expect(putCopy(`${folder}/built.ko`, folder)).rejects.toMatchObject({ code: 'EISDIR' })
    expect((await readdir(folder)).sort()).toEqual(['built.ko', 'overlay.ko', 'victim'])
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
})
