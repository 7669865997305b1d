// SPDX-License-Identifier: MIT

import { execFileSync } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { cacheRoot } from '../../src/kernel/cache.js'
import type { ModuleBuild } from '../../src/kernel/module/build.js'
import { moduleStatus, obtainModule } from '../../src/kernel/module/commands.js'
import { findHeaders } from '../../src/kernel/module/headers.js'
import { releases } from './releases.js'

describe.each(releases)('overlay.ko for the unmodified Linux %s', (release) => {
  let built: ModuleBuild

  beforeAll(async () => {
    built = await obtainModule({ release })
  })

  const modinfo = (field: string) =>
    execFileSync('modinfo', ['-F', field, built.module], { encoding: 'latin1' }).trim().split('\n')

  it('is overlayfs for that kernel, with the parameter of the series', () => {
    expect(modinfo('name')).toEqual(['overlay'])
    expect(modinfo('alias')).toContain('fs-overlay')
    expect(modinfo('license')).toEqual(['GPL'])
    expect(modinfo('vermagic')[0]).toMatch(new RegExp(`^${release.replace(/[+.]/g, '\\$&')} SMP `))
    expect(modinfo('parm').filter((parm) => parm.startsWith('lower_changes:'))).toEqual([
      expect.stringMatching(/off, manual, notify or reval/),
    ])
  })

  it('passed every check', () => {
    expect(built.checks.filter(({ result }) => result === 'refused')).toEqual([])
    const passed = built.checks.filter(({ result }) => result === 'ok').map(({ what }) => what)
    expect(passed).toEqual(expect.arrayContaining(['config', 'compiler', 'symbols', 'vermagic']))
  })

  it('needs the notification of the kernel, and nothing that it lacks', async () => {
    const headers = (await findHeaders(release, cacheRoot()))!
    const text = execFileSync('nm', ['-u', built.module], { encoding: 'latin1' })
    const needed = [...text.matchAll(/ U (\S+)/g)].map((match) => match[1]!)
    expect(needed).toContain('fsnotify_alloc_group')
    expect(needed.filter((name) => !headers.symbols.has(name))).toEqual([])
  })

  it('is found in the cache the second time, by the same checks', async () => {
    const again = await obtainModule({ release })
    expect(again).toEqual({ ...built, fresh: false })
    expect((await moduleStatus(release)).built.map(({ module }) => module)).toContain(built.module)
  })

  it('is refused for sources of another point release', async () => {
    const tree = await mkdtemp(join(tmpdir(), 'lowerwatch-tree-'))
    try {
      const [version, patchlevel] = release.split('.')
      await writeFile(`${tree}/Makefile`, `VERSION = ${version}\nPATCHLEVEL = ${patchlevel}\nSUBLEVEL = 1\n`)
      await expect(obtainModule({ release, tree })).rejects.toMatchObject({ code: 'USAGE' })
    } finally {
      await rm(tree, { recursive: true, force: true })
    }
  })
})
