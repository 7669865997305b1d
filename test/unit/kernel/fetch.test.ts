// SPDX-License-Identifier: MIT

import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { copyFile, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { Archive } from '../../../src/kernel/apt.js'
import { readEntry, replaceEntry, writeRecord } from '../../../src/kernel/cache.js'
import { cachedSource, fetchPart, fetchSource } from '../../../src/kernel/fetch.js'
import { fetchHeaders, findHeaders } from '../../../src/kernel/module/headers.js'

let root: string
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'lowerwatch-fetch-'))
})
afterEach(() => rm(root, { recursive: true, force: true }))

it('takes the source that the series are made for, also when a newer one is there, and else the newest', async () => {
  for (const packageVersion of ['6.12.95-1~bpo12+1', '6.12.107-1', '6.12.117-1', '6.12.107-2', '7.2.13-1']) {
    await mkdir(`${root}/src/${packageVersion}`, { recursive: true })
    const version = packageVersion.split('.').slice(0, 2).join('.')
    await writeRecord(`${root}/src/${packageVersion}`, {
      version,
      packageVersion,
      identity: 'x',
      tree: 'y',
    })
  }
  const taken = async (version: string, base?: string) =>
    (await cachedSource(version, base, root))?.packageVersion ?? null
  expect(await taken('6.12', '6.12.107')).toBe('6.12.107-2')
  expect(await taken('6.12', '6.12.95')).toBe('6.12.95-1~bpo12+1')
  expect(await taken('6.12', '6.12.120')).toBe('6.12.117-1')
  expect(await taken('6.12')).toBe('6.12.117-1')
  expect(await taken('6.1', '6.1.176')).toBe(null)
})

const hasDpkg = (() => {
  try {
    execFileSync('dpkg-deb', ['--version'], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
})()
const release = '7.99.0-test'
const headersName = `linux-headers-${release}`

describe.skipIf(!hasDpkg)(`a package${hasDpkg ? '' : ' (skipped: dpkg is not installed)'}`, () => {
  /** Packages by name, as the mirror has them. */
  let mirror: string
  beforeAll(async () => {
    mirror = await mkdtemp(join(tmpdir(), 'lowerwatch-mirror-'))
    const source = `${mirror}/linux-source-7.99`
    await write(source, {
      Makefile: 'VERSION = 7\nPATCHLEVEL = 99\nSUBLEVEL = 1\n',
      'fs/a.c': 'a\n',
      'fs/b.c': 'b\n',
    })
    const tar = ['-C', mirror, '--owner=1000', '--group=1000', '--mode=0777']
    await mkdir(`${mirror}/source/usr/src`, { recursive: true })
    execFileSync('tar', [
      ...tar,
      '-cJf',
      `${mirror}/source/usr/src/linux-source-7.99.tar.xz`,
      'linux-source-7.99',
    ])
    await pack('source', 'linux-source-7.99')
    await write(`${mirror}/headers/usr/src/${headersName}`, {
      '.config': 'CONFIG_MODULES=y\n',
      'Module.symvers': '',
      'include/config/kernel.release': release,
    })
    await pack('headers', headersName)
  })
  afterAll(() => rm(mirror, { recursive: true, force: true }))

  async function write(folder: string, files: Record<string, string>) {
    for (const [path, text] of Object.entries(files)) {
      await mkdir(dirname(`${folder}/${path}`), { recursive: true })
      await writeFile(`${folder}/${path}`, text)
    }
  }

  async function pack(folder: string, name: string) {
    const control = `Package: ${name}\nVersion: 7.99.1-1\nArchitecture: all\nMaintainer: somebody <somebody@example.org>\nDescription: for a test\n`
    await write(`${mirror}/${folder}`, { 'DEBIAN/control': control })
    execFileSync('dpkg-deb', ['--root-owner-group', '-b', `${mirror}/${folder}`, `${mirror}/${name}.deb`], {
      stdio: 'ignore',
    })
  }

  let downloads: string[] = []
  beforeEach(() => {
    downloads = []
  })
  const archive = {
    names: async () => ['linux-source-7.99'],
    versionsOf: async () => ['7.99.1-1'],
    async download(name: string, version: string, folder: string) {
      // Another version there could be taken for the one that is asked for.
      expect(await readdir(folder)).toEqual([])
      downloads.push(name)
      const file = `${folder}/${name}_${version}_all.deb`
      await copyFile(`${mirror}/${name}.deb`, file)
      return file
    },
  } as unknown as Archive
  const open = async () => archive
  const note = () => {}

  const source = () => fetchSource('7.99', note, root, open)
  const part = (...paths: string[]) => fetchPart(open, '7.99', '7.99.1-1', paths, note, root)
  const headers = () => fetchHeaders(release, archive, note, root)

  it.each([
    ['a source', source, 'src', '7.99.1-1'],
    ['a part of one', () => part('fs/a.c'), 'part', '7.99-7.99.1-1'],
    ['headers', headers, 'headers', release],
  ] as const)(
    '%s is fetched once by two at a time, and nothing else stays',
    async (_, fetch, folder, entry) => {
      const [one, two] = await Promise.all([fetch(), fetch()])
      expect(two).toEqual(one)
      expect(downloads).toHaveLength(1)
      expect((await readdir(`${root}/${folder}`)).sort()).toEqual([entry, `${entry}.json`])
    },
  )

  it('belongs to the one who fetched it', async () => {
    const { tree, identity } = await source()
    const file = await stat(`${tree}/fs/a.c`)
    expect(file.uid).toBe(process.geteuid!())
    expect(file.mode & 0o777).toBe(0o777 & ~process.umask())
    expect(identity).toMatch(/^[0-9a-f]{64}$/)
  })

  it('whose directory is gone is fetched again, whatever its record says', async () => {
    await rm((await source()).tree, { recursive: true })
    expect(await cachedSource('7.99', undefined, root)).toBeNull()
    expect(await readFile(`${await part('fs/a.c')}/fs/a.c`, 'utf8')).toBe('a\n')
    await rm(`${root}/part/7.99-7.99.1-1`, { recursive: true })
    expect(await readFile(`${await part('fs/a.c')}/fs/a.c`, 'utf8')).toBe('a\n')
    await headers()
    await rm(`${root}/headers/${release}`, { recursive: true })
    expect(await findHeaders(release, root)).toBeNull()
    expect((await headers()).release).toBe(release)
    expect(downloads).toHaveLength(5)
  })

  it('gets more files when they are asked for, and keeps those that it has', async () => {
    await part('fs/a.c')
    const tree = await part('fs/b.c', 'fs/none.c')
    expect(await part('fs/a.c', 'fs/none.c')).toBe(tree)
    expect((await readdir(`${tree}/fs`)).sort()).toEqual(['a.c', 'b.c'])
    expect(downloads).toHaveLength(2)
  })

  it('that one who was killed had begun with is gone after the next', async () => {
    const module = fileURLToPath(new URL('../../../dist/kernel/fetch.js', import.meta.url))
    const program = `
      import { fetchPart } from ${JSON.stringify(module)}
      import { writeFileSync } from 'node:fs'
      const download = (name, version, folder) => {
        writeFileSync(folder + '/' + name + '_7.98_all.deb', 'half of it')
        process.stdout.write('begun')
        return new Promise(() => setInterval(() => {}, 1000))
      }
      await fetchPart(async () => ({ download }), '7.99', '7.99.1-1', ['fs/a.c'], () => {}, ${JSON.stringify(root)})`
    const child = spawn(process.execPath, ['--input-type=module', '-e', program], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    await once(child.stdout, 'data')
    const exited = once(child, 'exit')
    child.kill('SIGKILL')
    await exited
    await part('fs/a.c')
    expect((await readdir(`${root}/part`)).sort()).toEqual(['7.99-7.99.1-1', '7.99-7.99.1-1.json'])
  })
})

it('an entry has no record while its directory is replaced', async () => {
  const entry = `${root}/entry`
  await mkdir(entry)
  await writeRecord(entry, { old: true })
  await expect(replaceEntry(entry, `${root}/none`, { old: false })).rejects.toMatchObject({ code: 'ENOENT' })
  expect(await readdir(root)).toEqual([])
  await mkdir(`${root}/work`)
  await replaceEntry(entry, `${root}/work`, { old: false })
  expect(await readEntry(entry)).toEqual({ old: false })
})
