// SPDX-License-Identifier: MIT

import { spawnSync } from 'node:child_process'
import {
  chmod,
  lstat,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rm,
  stat,
  symlink,
  writeFile,
} from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { Archive } from '../../../src/kernel/apt.js'
import { writeRecord } from '../../../src/kernel/cache.js'
import { obtainBuild } from '../../../src/kernel/commands.js'
import { fetchSource } from '../../../src/kernel/fetch.js'
import { moduleStatus, obtainFor } from '../../../src/kernel/module/commands.js'
import { cleanEnvironment } from '../../../src/kernel/module/environment.js'
import { secureProgram } from '../../../src/kernel/module/program.js'
import { secureCache, securePath, secureTree, stranger } from '../../../src/kernel/module/secure.js'
import { Target } from '../../../src/kernel/module/target.js'
import { makeTree } from './fixture.js'

const main = fileURLToPath(new URL('../../../dist/cli/main.js', import.meta.url))
const release = '6.12.95-test'
const refused = (path: string, who = 'can be written by everybody') => ({
  code: 'NOT_PERMITTED',
  exitCode: 2,
  message: `${path} ${who}`,
})

/** A directory of its own; with files, and links by `-> target`. */
async function directory(files: Record<string, string> = {}) {
  const root = await mkdtemp(join(tmpdir(), 'lowerwatch-secure-'))
  for (const [path, content] of Object.entries(files)) {
    await mkdir(dirname(`${root}/${path}`), { recursive: true, mode: 0o755 })
    if (content.startsWith('-> ')) await symlink(content.slice(3), `${root}/${path}`)
    else await writeFile(`${root}/${path}`, content, { mode: 0o644 })
  }
  return { root, [Symbol.asyncDispose]: () => rm(root, { recursive: true, force: true }) }
}

describe('who can change a file', () => {
  it('besides root and oneself: its owner, its group, everybody', () => {
    const at = (uid: number, mode: number) => stranger({ uid, gid: 7, mode }, 5)
    expect([at(0, 0o100644), at(5, 0o100600), at(0, 0o120777)]).toEqual([null, null, null])
    expect(at(6, 0o100644)).toBe('belongs to user 6')
    expect(at(6, 0o120777)).toBe('belongs to user 6')
    expect(at(0, 0o40775)).toBe('can be written by group 7')
    expect(at(5, 0o41777)).toBe('can be written by everybody')
  })

  it('is asked of every directory on the way, and of what links lead to', async () => {
    await using there = await directory({ 'a/b/file': 'x', link: '-> a/b/../b/file', 'shared/file': 'x' })
    const { root } = there
    expect(await securePath(`${root}/link`, '')).toBe(`${root}/a/b/file`)
    expect(await securePath(`${root}/a/none/at/all`, '')).toBe(`${root}/a/none/at/all`)
    await chmod(`${root}/shared`, 0o777)
    await expect(securePath(`${root}/shared/file`, '')).rejects.toMatchObject(refused(`${root}/shared`))
    await chmod(`${root}/a`, 0o775)
    await expect(securePath(`${root}/link`, '')).rejects.toMatchObject({ code: 'NOT_PERMITTED' })
    await chmod(`${root}/a`, 0o755)
    await chmod(`${root}/a/b/file`, 0o666)
    await expect(securePath(`${root}/link`, '')).rejects.toMatchObject(refused(`${root}/a/b/file`))
  })

  it('in a sticky directory nobody can, once it is there', async () => {
    await using there = await directory({ 'tmp/file': 'x' })
    const { root } = there
    await chmod(`${root}/tmp`, 0o1777)
    expect(await securePath(`${root}/tmp/file`, '')).toBe(`${root}/tmp/file`)
    await expect(securePath(`${root}/tmp/new`, '')).rejects.toMatchObject(refused(`${root}/tmp`))
  })

  it('is asked of all that is in a tree', async () => {
    await using there = await directory({ 'tree/a/b': 'x', 'tree/link': '-> ../other', 'other/a/file': 'x' })
    const { root } = there
    await secureTree(`${root}/tree`, '', () => true)
    await chmod(`${root}/other/a/file`, 0o666)
    await expect(secureTree(`${root}/tree`, '', () => true)).rejects.toMatchObject(
      refused(`${root}/other/a/file`),
    )
    await secureTree(`${root}/tree`, '', (name) => name !== 'link')
    await chmod(`${root}/tree/a`, 0o777)
    await expect(secureTree(`${root}/tree`, '', (name) => name !== 'link')).rejects.toMatchObject(
      refused(`${root}/tree/a`),
    )
  })

  it('ends with links that lead to themselves', async () => {
    await using there = await directory({ loop: '-> loop' })
    await expect(securePath(`${there.root}/loop`, '')).rejects.toMatchObject({ code: 'NO_SUCH_PATH' })
  })
})

describe('the cache', () => {
  afterEach(() => vi.unstubAllEnvs())

  it('that somebody else can change is not used by root: no source, kernel or list of packages of it', async ({
    skip,
  }) => {
    if (process.geteuid!() !== 0) skip('not root')
    await using there = await directory({ 'lowerwatch/kernel/src/7.99.1-1/Makefile': '' })
    await using tree = await makeTree({})
    const cache = `${there.root}/lowerwatch/kernel`
    const planted = { version: '7.99', packageVersion: '7.99.1-1', identity: 'x', tree: '' }
    await writeRecord(`${cache}/src/7.99.1-1`, planted)
    const note = () => {}
    await fetchSource('7.99', note, cache)
    await chmod(there.root, 0o777)
    vi.stubEnv('XDG_CACHE_HOME', there.root)
    const build = { target: 'uml', series: 'all', stock: true, tree: tree.root } as const
    await expect(obtainBuild(build)).rejects.toMatchObject(refused(there.root))
    await expect(fetchSource('7.99', note, cache)).rejects.toMatchObject(refused(there.root))
    await expect(Archive.open(cache, note)).rejects.toMatchObject(refused(there.root))
    await expect(obtainFor({ release }, cache)).rejects.toMatchObject({ code: 'NOT_PERMITTED' })
  })

  it('gets files from root that nobody else can write', async ({ skip }) => {
    if (process.geteuid!() !== 0) skip('not root')
    await using there = await directory()
    const before = process.umask(0o007)
    try {
      await secureCache(there.root)
      expect(process.umask()).toBe(0o027)
    } finally {
      process.umask(before)
    }
  })
})

describe('the program that scripts of the system start', () => {
  it('is refused when somebody else can change it, or a package that it needs', async () => {
    const manifest = (...names: string[]) =>
      JSON.stringify({ dependencies: Object.fromEntries(names.map((name) => [name, '1'])) })
    await using there = await directory({
      'app/node_modules/lowerwatch/package.json': manifest('a', '@s/b', 'absent'),
      'app/node_modules/lowerwatch/dist/main.js': '',
      'app/node_modules/lowerwatch/node_modules/a/package.json': manifest('c'),
      'app/node_modules/@s/b/package.json': '{}',
      'app/node_modules/c': '-> ../store/c',
      'app/node_modules/other/package.json': '{}',
      'app/store/c/package.json': '{}',
      'app/store/c/lib/index.js': '',
      'bin/node': '',
    })
    const { root } = there
    const looked = () => secureProgram(`${root}/app/node_modules/lowerwatch`, `${root}/bin/node`)
    await looked()
    // Nothing that it needs.
    await chmod(`${root}/app/node_modules/other`, 0o777)
    await looked()
    for (const path of [
      'bin/node',
      'app',
      'app/node_modules/lowerwatch/dist',
      'app/node_modules/lowerwatch/dist/main.js',
      'app/node_modules/lowerwatch/node_modules',
      'app/node_modules/lowerwatch/node_modules/a/package.json',
      'app/node_modules/@s',
      'app/node_modules/@s/b',
      'app/store/c/lib/index.js',
    ]) {
      const { mode } = await stat(`${root}/${path}`)
      await chmod(`${root}/${path}`, mode | 0o002)
      await expect(looked()).rejects.toMatchObject(refused(`${root}/${path}`))
      await chmod(`${root}/${path}`, mode)
    }
  })

  it('as root is given no options by the environment', () => {
    const before = process.umask()
    try {
      const env = {
        HOME: '/root',
        LC_ALL: 'C',
        https_proxy: 'p',
        LOWERWATCH_DEBUG: '1',
        KBUILD_SIGN_PIN: '1',
      }
      const bad = {
        PATH: '/home/u/bin',
        MAKEFLAGS: 'x',
        KCFLAGS: 'x',
        TMPDIR: '/x',
        APT_CONFIG: '/x',
        TAR_OPTIONS: 'x',
      }
      const given = { ...env, ...bad }
      cleanEnvironment(given, 1000)
      expect(given).toEqual({ ...env, ...bad })
      process.umask(0)
      cleanEnvironment(given, 0)
      expect(given).toEqual({ ...env, PATH: expect.stringMatching(/^\/usr\/local\/sbin:.*:\/bin$/) })
      expect(process.umask()).toBe(0o022)
    } finally {
      process.umask(before)
    }
  })
})

describe('the release of a kernel', () => {
  const bad = [
    '',
    '-x',
    '--json',
    '..',
    '../6.12.95',
    '6.12.95/..',
    '6.12.95-a/../b',
    '6.12..',
    '6.12.95\n',
    '6.12\x1b[2J',
    '6.12.95 x',
    'six',
  ]

  it.each(bad)('is not %j: one line, exit status 2', async (text) => {
    const command = ['build', 'install', 'remove', 'status'][bad.indexOf(text) % 4]!
    const argv = [main, 'kernel', 'module', command, '--release', text]
    const { status, stdout, stderr } = spawnSync(process.execPath, argv, { encoding: 'utf8' })
    // biome-ignore lint/suspicious/noControlCharactersInRegex: there are none
    expect(stderr).toMatch(/^lowerwatch: [^\x00-\x1f\x7f]*is no release of a kernel[^\x00-\x1f\x7f]*\n$/)
    expect([status, stdout]).toEqual([2, ''])
    await expect(Target.open('/', text)).rejects.toMatchObject({ code: 'USAGE' })
    await expect(obtainFor({ release: text })).rejects.toMatchObject({ code: 'USAGE' })
    await expect(moduleStatus(text)).rejects.toMatchObject({ code: 'USAGE' })
  })
})

describe('a machine in a directory', () => {
  const modules = (top = '') => ({ [`${top}lib/modules/${release}/modules.dep`]: '' })

  it('may have links: they lead to what is in it', async () => {
    await using outside = await directory({ file: 'untouched' })
    await using there = await directory({
      ...modules('usr/'),
      lib: '-> usr/lib',
      etc: `-> ${outside.root}`,
      'var/lib': '-> ../../../../../../../usr/state',
      [outside.root.slice(1)]: '-> /nested',
      'nested/kernel/hook': 'its own',
    })
    const { root } = there
    const target = await Target.open(root, release)
    await target.replace('/etc/file', 'new')
    await target.replace('/var/lib/record', 'new')
    await target.replace(target.modulePath, 'module')
    expect(await readFile(`${outside.root}/file`, 'utf8')).toBe('untouched')
    expect(await readFile(`${root}/nested/file`, 'utf8')).toBe('new')
    expect(await readFile(`${root}/usr/state/record`, 'utf8')).toBe('new')
    expect(await readFile(`${root}/usr${target.modulePath}`, 'utf8')).toBe('module')
    expect((await target.read('/etc/kernel/hook'))?.toString()).toBe('its own')
    await target.remove('/etc/file')
    expect(await target.has('/etc/file')).toBe(false)
    expect(await readFile(`${outside.root}/file`, 'utf8')).toBe('untouched')
  })

  it('whose modules are behind a link that depmod would take out of it is refused', async () => {
    await using outside = await directory(modules())
    await using there = await directory({
      ...modules(`${outside.root.slice(1)}/`),
      lib: `-> ${outside.root}/lib`,
    })
    await expect(Target.open(there.root, release)).rejects.toMatchObject({
      code: 'KERNEL',
      message: expect.stringMatching(/leads out of/),
    })
  })

  it('gets a file by a name that nobody can know, and what a killed one left is gone', async () => {
    await using there = await directory({
      ...modules(),
      'etc/hook.lowerwatch-new': '-> ../victim',
      'etc/hook': '-> ../victim',
      'etc/.lowerwatch-0123456789abcdef': 'left',
      'etc/.lowerwatch-other': 'not ours',
      victim: 'untouched',
    })
    const { root } = there
    const target = await Target.open(root, release)
    const before = process.umask(0o077)
    try {
      await target.replace('/etc/hook', 'new', 0o755)
      await target.replace('/etc/below/hook', 'new')
    } finally {
      process.umask(before)
    }
    expect(await readFile(`${root}/victim`, 'utf8')).toBe('untouched')
    expect((await readdir(`${root}/etc`)).sort()).toEqual([
      '.lowerwatch-other',
      'below',
      'hook',
      'hook.lowerwatch-new',
    ])
    const found = await lstat(`${root}/etc/hook`)
    expect([found.isFile(), found.mode & 0o777]).toEqual([true, 0o755])
    expect((await lstat(`${root}/etc/below/hook`)).mode & 0o777).toBe(0o644)
    await writeFile(`${root}/etc/.lowerwatch-0123456789abcdef`, 'left')
    await target.remove('/etc/hook')
    expect((await readdir(`${root}/etc`)).sort()).toEqual([
      '.lowerwatch-other',
      'below',
      'hook.lowerwatch-new',
    ])
  })

  it('is refused, with one line and exit status 2, when others can write in it', async () => {
    await using there = await directory({ ...modules(), 'etc/kernel/postinst.d/x': '' })
    const { root } = there
    const target = await Target.open(root, release)
    await chmod(`${root}/etc/kernel/postinst.d`, 0o777)
    const hook = '/etc/kernel/postinst.d/hook'
    await expect(target.replace(hook, 'x')).rejects.toMatchObject(refused(`${root}/etc/kernel/postinst.d`))
    await expect(target.remove(hook)).rejects.toMatchObject(refused(`${root}/etc/kernel/postinst.d`))
    await expect(target.read(hook)).rejects.toMatchObject(refused(`${root}/etc/kernel/postinst.d`))
    await chmod(root, 0o777)
    for (const command of ['install', 'remove']) {
      const argv = [main, 'kernel', 'module', command, '--root', root, '--release', release]
      const { status, stdout, stderr } = spawnSync(process.execPath, argv, { encoding: 'utf8' })
      expect(stderr).toMatch(/^lowerwatch: \S+ can be written by everybody: .*\n$/)
      expect([status, stdout]).toEqual([2, ''])
    }
  })
})
