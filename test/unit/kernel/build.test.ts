// SPDX-License-Identifier: MIT

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { appendFileSync } from 'node:fs'
import { chmod, chown, mkdtemp, readdir, readFile, rm, stat, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { type Build, buildKernel } from '../../../src/kernel/build.js'
import type { ProgressOutput } from '../../../src/kernel/progress.js'
import type { Patch } from '../../../src/kernel/series.js'
import { openTree } from '../../../src/kernel/tree.js'
import { five, makeTree, numbers, patch } from './fixture.js'

/** A source of a version that has no patches, built by make in no time; every compilation is counted in `compiled`. */
const makefile = `VERSION = 7
PATCHLEVEL = 99
SUBLEVEL = 13
EXTRAVERSION =
linux: file.o other.o
	cat file.o other.o > linux
%.o: %
	@echo "  CC      $@"
	@echo $@ >> compiled
	cp $< $@
allnoconfig:
	cp $(KCONFIG_ALLCONFIG) .config
`

let tree: Awaited<ReturnType<typeof makeTree>>
let cache: string
beforeEach(async () => {
  tree = await makeTree({
    Makefile: makefile,
    file: numbers(10),
    other: 'other\n',
    'drivers/gpu/big.c': 'x\n',
  })
  cache = await mkdtemp(join(tmpdir(), 'lowerwatch-cache-'))
})
afterEach(async () => {
  await tree[Symbol.asyncDispose]()
  await rm(cache, { recursive: true, force: true })
  vi.unstubAllEnvs()
})

const silent = { write: () => true }

async function build(
  patches: Patch[],
  identity: string | null = 'one',
  progress: ProgressOutput = silent,
): Promise<Build> {
  const request = { tree: await openTree(tree.root), identity, target: 'uml', debug: null, patches } as const
  return buildKernel({ ...request, patches }, progress, cache)
}

const compiled = async (done: Build) =>
  (await readFile(`${done.directory}/compiled`, 'utf8')).trim().split('\n')

/** What a parallel make compiles at first has no order. */
const inAnyOrder = (objects: string[]) => [...objects.slice(0, 2).sort(), ...objects.slice(2)]

describe('buildKernel', () => {
  it('builds stock once and finds it again', async () => {
    const first = await build([])
    expect(await readFile(first.kernel, 'utf8')).toBe(`${numbers(10)}other\n`)
    expect(first).toMatchObject({ version: '7.99', release: '7.99.13', fresh: true })
    expect(await build([])).toEqual({ ...first, fresh: false })
  })

  it('builds only what the patches change, on a copy of the stock build', async () => {
    const patched = await build([patch('0001-five.patch', five)])
    expect(await readFile(patched.kernel, 'utf8')).toBe(`${numbers(10, { 5: 'five' })}other\n`)
    expect(inAnyOrder(await compiled(patched))).toEqual(['file.o', 'other.o', 'file.o'])
    const stock = await build([])
    expect(stock.fresh).toBe(false)
    expect(inAnyOrder(await compiled(stock))).toEqual(['file.o', 'other.o'])
  })

  it('takes a patch that is in two series once', async () => {
    const again = { ...patch('0007-five.patch', five), series: 'overlayfs' as const }
    const patched = await build([patch('0001-five.patch', five), again])
    expect(await readFile(patched.kernel, 'utf8')).toBe(`${numbers(10, { 5: 'five' })}other\n`)
  })

  it('leaves the source alone and does not copy what is not compiled', async () => {
    const { directory } = await build([])
    expect((await readdir(tree.root)).sort()).toEqual(['Makefile', 'drivers', 'file', 'other'])
    expect(await readdir(`${directory}/drivers/gpu`)).toEqual([])
  })

  it('keeps another source, and another patch, apart', async () => {
    const one = await build([])
    const two = await build([], 'two')
    expect(two.fresh).toBe(true)
    expect(two.directory).not.toBe(one.directory)
    const a = await build([patch('0001-a.patch', five)])
    const b = await build([patch('0001-a.patch', five.replace('+five', '+FIVE'))])
    expect(b.directory).not.toBe(a.directory)
  })

  it('keeps nothing when make ends well without a kernel', async () => {
    await writeFile(`${tree.root}/Makefile`, makefile.replace(/^linux:.*\n.*/m, 'linux:\n\t@true'))
    for (let run = 0; run < 2; run++)
      await expect(build([])).rejects.toMatchObject({
        code: 'KERNEL',
        message: 'make ended well and made no kernel',
      })
    expect((await readdir(`${cache}/build`)).filter((name) => /-\w{12}\.json$/.test(name))).toEqual([])
  })

  it('makes a kernel again that is gone, or whose tree is', async () => {
    const first = await build([])
    await rm(first.kernel)
    const others = 'linux: others\nothers:\n\tls .. > others\n'
    await writeFile(`${first.directory}/Makefile`, makefile + others)
    expect(await build([])).toEqual(first)
    expect(await compiled(first)).toHaveLength(2)
    // A kernel that is not finished must not have the record of the one before.
    expect(await readFile(`${first.directory}/others`, 'utf8')).not.toMatch(/-\w{12}\.json$/m)
    await rm(first.directory, { recursive: true })
    expect(await build([])).toEqual(first)
    expect(await readFile(first.kernel, 'utf8')).toBe(`${numbers(10)}other\n`)
    expect(await build([])).toEqual({ ...first, fresh: false })
  })

  it('is not changed by variables that are no part of its name', async () => {
    await writeFile(
      `${tree.root}/Makefile`,
      `${makefile}linux: environment\nenvironment:\n\tenv > environment\n`,
    )
    // With them nothing would be made, and a file not copied.
    vi.stubEnv('MAKEFLAGS', 'n')
    vi.stubEnv('TAR_OPTIONS', '--exclude=other')
    const names = ['KBUILD_OUTPUT', 'O', 'CC', 'LLVM', 'CROSS_COMPILE', 'KCFLAGS', 'KCPPFLAGS', 'HOSTCFLAGS']
    for (const name of names) vi.stubEnv(name, 'leaked')
    const { directory, kernel } = await build([])
    expect(await readFile(kernel, 'utf8')).toBe(`${numbers(10)}other\n`)
    const environment = await readFile(`${directory}/environment`, 'utf8')
    expect(environment).not.toContain('leaked')
    expect(environment).toMatch(/^ARCH=um$/m)
  })

  it('is of one state of a tree: an edit while it is copied is said, and the next one is of the new state', async () => {
    const edits = {
      write: (text: string) => {
        if (text.includes('copying')) appendFileSync(`${tree.root}/file`, 'edited\n')
        return true
      },
    }
    await expect(build([], null, edits)).rejects.toMatchObject({
      code: 'KERNEL',
      message: `${tree.root} was changed while it was copied`,
    })
    const done = await build([], null)
    expect(done.fresh).toBe(true)
    expect(await readFile(done.kernel, 'utf8')).toContain('edited\n')
    expect((await build([], null)).fresh).toBe(false)
  })

  it("as root keeps nobody's owners and modes", async ({ skip }) => {
    if (process.geteuid!() !== 0) skip('not root')
    await chmod(`${tree.root}/file`, 0o777)
    await chown(`${tree.root}/file`, 1000, 1000)
    await chmod(tree.root, 0o770)
    await chown(tree.root, 1000, 1000)
    const { directory } = await build([])
    const access = async (path: string) => {
      const { uid, gid, mode } = await stat(path)
      return [uid, gid, mode & 0o7777]
    }
    expect(await access(directory)).toEqual([0, 0, 0o755])
    expect(await access(`${directory}/file`)).toEqual([0, 0, 0o777 & ~process.umask()])
    // What an earlier version had left is no build.
    await chown(directory, 1000, 1000)
    expect((await build([])).fresh).toBe(true)
    expect(await access(directory)).toEqual([0, 0, 0o755])
  })

  it('removes builds of the kind that were not used for a day when it makes another, but for three', async () => {
    const builds = []
    for (const identity of ['one', 'two', 'three', 'four']) builds.push(await build([], identity))
    const days = new Date(Date.now() - 48 * 3600_000)
    for (const file of await readdir(`${cache}/build`)) await utimes(`${cache}/build/${file}`, days, days)
    for (const identity of ['three', 'four'])
      expect(await build([], identity)).toMatchObject({ fresh: false })
    expect((await readdir(`${cache}/build`)).filter((name) => /stock-\w+$/.test(name)).length).toBe(4)
    const last = await build([], 'five')
    const left = [...builds.slice(2), last].map(({ directory }) => basename(directory)).sort()
    const names = (await readdir(`${cache}/build`)).map((name) => name.replace(/(-\w{12})\..*/, '$1'))
    // The directory, and what is beside it
    expect([...new Set(names.filter((name) => /stock-\w+$/.test(name)))].sort()).toEqual(left)
  })

  it('names the first error of make, and tries again the next time', async () => {
    await writeFile(`${tree.root}/Makefile`, `${makefile}\nother.o: missing\n`)
    await expect(build([])).rejects.toMatchObject({
      code: 'KERNEL',
      message: expect.stringContaining('missing'),
    })
    await expect(build([])).rejects.toMatchObject({ code: 'KERNEL' })
  })

  it('refuses patches that do not fit, without leaving a build behind', async () => {
    await writeFile(`${tree.root}/file`, 'nothing like it\n')
    await expect(build([patch('0001-five.patch', five)])).rejects.toMatchObject({
      code: 'KERNEL',
      message: '0001-five.patch does not apply',
    })
    expect((await readdir(`${cache}/build`)).filter((name) => /patched-\w+$/.test(name))).toEqual([])
  })

  it('takes make down with it when it is ended, and goes on later', async () => {
    await writeFile(
      `${tree.root}/Makefile`,
      `${makefile}\nother.o: other\n\techo $$$$ > pid; sleep 60; cp other other.o\n`,
    )
    const program = `
      import { buildKernel } from ${JSON.stringify(fileURLToPath(new URL('../../../dist/kernel/build.js', import.meta.url)))}
      import { openTree } from ${JSON.stringify(fileURLToPath(new URL('../../../dist/kernel/tree.js', import.meta.url)))}
      const tree = await openTree(${JSON.stringify(tree.root)})
      await buildKernel({ tree, identity: 'slow', target: 'uml', debug: null, patches: [] }, process.stderr, ${JSON.stringify(cache)})`
    const child = spawn(process.execPath, ['--input-type=module', '-e', program], { stdio: 'ignore' })
    const pid = await vi.waitUntil(
      async () => {
        const [entry] = (await readdir(`${cache}/build`).catch(() => [])).filter((name) =>
          /stock-\w+$/.test(name),
        )
        return entry && Number(await readFile(`${cache}/build/${entry}/pid`, 'utf8').catch(() => 0))
      },
      { timeout: 20_000 },
    )
    child.kill('SIGTERM')
    expect((await once(child, 'exit'))[1]).toBe('SIGTERM')
    expect(() => process.kill(pid, 0)).toThrow('ESRCH')
  }, 30_000)
})
