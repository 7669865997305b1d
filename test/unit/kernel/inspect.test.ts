// SPDX-License-Identifier: MIT

import { execFile } from 'node:child_process'
import {
  appendFile,
  chmod,
  chown,
  mkdir,
  readdir,
  readFile,
  stat,
  symlink,
  writeFile,
} from 'node:fs/promises'
import { promisify } from 'node:util'
import { describe, expect, it } from 'vitest'
import { inspect, inspectAll } from '../../../src/kernel/inspect.js'
import type { Patch } from '../../../src/kernel/series.js'
import { openTree } from '../../../src/kernel/tree.js'
import { Workspace } from '../../../src/kernel/workspace.js'
import { contents, created, five, makeTree, numbers, patch, seven } from './fixture.js'

const series = [
  patch('0001-five.patch', five),
  patch('0002-seven.patch', seven),
  patch('0003-new.patch', created),
]
/** Can be applied again and again. */
const appended = `diff --git a/file b/file
--- a/file
+++ b/file
@@ -18,3 +18,5 @@
 18
 19
 20
+20
+20
`
const states = async (root: string) =>
  (await inspect(new Workspace(root), series)).patches.map((p) => p.state)

describe('a series and a tree', () => {
  it('is absent, then applied, then taken out again, byte for byte', async () => {
    await using tree = await makeTree({ file: numbers(20) })
    expect(await states(tree.root)).toEqual(['applies', 'applies', 'applies'])

    await (await inspect(new Workspace(tree.root), series)).patched.commit()
    expect(await readFile(`${tree.root}/file`, 'latin1')).toBe(numbers(20, { 5: 'five', 7: 'seven' }))
    expect((await stat(`${tree.root}/new/script`)).mode & 0o777).toBe(0o755)
    // The second patch changed the context of the first: it is recognised all the same.
    expect(await states(tree.root)).toEqual(['applied', 'applied', 'applied'])

    await (await inspect(new Workspace(tree.root), series)).unpatched.commit()
    expect(await readFile(`${tree.root}/file`, 'latin1')).toBe(numbers(20))
    await expect(stat(`${tree.root}/new/script`)).rejects.toMatchObject({ code: 'ENOENT' })
    expect(await states(tree.root)).toEqual(['applies', 'applies', 'applies'])
  })

  it('tells what is in when it stops half way', async () => {
    await using tree = await makeTree({ file: numbers(20, { 5: 'five' }) })
    expect(await states(tree.root)).toEqual(['applied', 'applies', 'applies'])
  })

  it('names file, hunk and reason of a conflict', async () => {
    await using tree = await makeTree({ file: numbers(20, { 9: 'nine' }), 'new/script': 'mine\n' })
    const { patches } = await inspect(new Workspace(tree.root), series)
    expect(patches.map((p) => [p.state, p.conflicts])).toEqual([
      ['applies', []],
      ['conflict', [{ file: 'file', hunk: 1, why: 'line 9 is "nine", the patch expects "9"' }]],
      ['conflict', [{ file: 'new/script', hunk: 1, why: 'the file to create exists already' }]],
    ])
  })

  it('tells a patch that is only partly in', async () => {
    const both = patch('0001-both.patch', `${five}${created}`)
    await using tree = await makeTree({ file: numbers(20, { 5: 'five' }) })
    const { patches } = await inspect(new Workspace(tree.root), [both])
    expect(patches[0]!.state).toBe('partial')
  })

  it('takes out what is in without those before it', async () => {
    await using tree = await makeTree({ file: numbers(20), 'new/script': '#!/bin/sh\nexit 0\n' })
    const found = await inspect(new Workspace(tree.root), series)
    expect(found.patches.map(({ state }) => state)).toEqual(['applies', 'applies', 'applied'])
    expect([...found.removable]).toEqual([series[2]])
    await found.unpatched.commit()
    expect(await contents(tree.root)).toEqual({ file: numbers(20), 'new/': '' })
  })

  it('does not take out what others build on', async () => {
    // Somebody changed a line that the first patch brought.
    await using tree = await makeTree({ file: numbers(20, { 5: 'five', 7: 'seven' }) })
    const found = await inspect(new Workspace(tree.root), [series[0]!])
    expect(found.patches[0]!.state).toBe('conflict')
    expect(found.removable.size).toBe(0)
  })

  it('tells a patch that is in, when some of it would go in once more', async () => {
    const end = patch('0001-end.patch', appended)
    await using tree = await makeTree({ file: `${numbers(20)}20\n20\n` })
    expect((await inspect(new Workspace(tree.root), [end])).patches[0]!.state).toBe('applied')
  })

  it('does not touch the index of a git tree, and keeps modes', async () => {
    await using tree = await makeTree({ file: numbers(20) })
    const git = (...args: string[]) =>
      promisify(execFile)('git', ['-C', tree.root, '-c', 'user.name=x', '-c', 'user.email=x@x', ...args])
    await chmod(`${tree.root}/file`, 0o640)
    await git('init', '-q')
    await git('add', '.')
    await git('commit', '-q', '-m', 'base')
    await (await inspect(new Workspace(tree.root), series)).patched.commit()
    expect((await git('diff', '--name-only')).stdout).toBe('file\n')
    expect((await git('diff', '--cached', '--name-only')).stdout).toBe('')
    expect((await stat(`${tree.root}/file`)).mode & 0o777).toBe(0o640)
  })
})

describe('two series', () => {
  const other = `diff --git a/other b/other
--- a/other
+++ b/other
@@ -1,3 +1,4 @@
 1
 2
+two and a half
 3
`
  const both = [...series, { ...patch('0001-other.patch', other), series: 'overlayfs' as const }]

  it('are seen one without the other', async () => {
    await using tree = await makeTree({ file: numbers(20), other: numbers(3) })
    const alone = both.filter((p) => p.series === 'overlayfs')
    await (await inspectAll(new Workspace(tree.root), alone)).patched.commit()
    const found = await inspectAll(new Workspace(tree.root), both)
    expect(found.patches.map((p) => p.state)).toEqual(['applies', 'applies', 'applies', 'applied'])
    await found.patched.commit()
    const all = await inspectAll(new Workspace(tree.root), both)
    expect(all.patches.map((p) => p.state)).toEqual(['applied', 'applied', 'applied', 'applied'])
    await all.unpatched.commit()
    expect(await readFile(`${tree.root}/file`, 'latin1')).toBe(numbers(20))
    expect(await readFile(`${tree.root}/other`, 'latin1')).toBe(numbers(3))
  })

  const kernfs = [patch('0001-new.patch', created), patch('0002-five.patch', five)]
  const overlayfs = [patch('0001-other.patch', other), patch('0002-new.patch', created)].map((p) => ({
    ...p,
    series: 'overlayfs' as const,
  }))

  it('have a patch in common that the one knows some lines further down', async () => {
    await using tree = await makeTree({ file: numbers(20), other: numbers(3) })
    const down = patch('0002-five.patch', five.replace('@@ -2,7 +2,7', '@@ -4,7 +4,7'))
    const later = [overlayfs[0]!, { ...down, series: 'overlayfs' as const }]
    const look = (patches: Patch[], others: Patch[] = []) =>
      inspectAll(new Workspace(tree.root), patches, others)
    await (await look([...kernfs, ...later])).patched.commit()
    expect((await look([...kernfs, ...later])).patches.every((p) => p.state === 'applied')).toBe(true)
    await (await look(later, kernfs)).unpatched.commit()
    expect(await readFile(`${tree.root}/file`, 'latin1')).toBe(numbers(20, { 5: 'five' }))
    await (await look(kernfs, later)).unpatched.commit()
    expect(await readFile(`${tree.root}/file`, 'latin1')).toBe(numbers(20))
  })

  it('have a patch in common: it is in once, and stays while one of them needs it', async () => {
    await using tree = await makeTree({ file: numbers(20), other: numbers(3) })
    const look = (patches: Patch[], others: Patch[] = []) =>
      inspectAll(new Workspace(tree.root), patches, others)
    const seen = async (patches: Patch[], others: Patch[] = []) =>
      (await look(patches, others)).patches.map((p) => `${p.patch.series} ${p.state}`)
    const [k, o] = [
      ['kernfs applied', 'kernfs applied'],
      ['overlayfs applied', 'overlayfs applied'],
    ]

    await (await look(overlayfs, kernfs)).patched.commit()
    expect(await seen(overlayfs, kernfs)).toEqual(o)
    expect(await seen(kernfs, overlayfs)).toEqual(['kernfs applied', 'kernfs applies'])
    await (await look(kernfs, overlayfs)).patched.commit()
    expect(await seen([...kernfs, ...overlayfs])).toEqual([...k, ...o])

    await (await look(kernfs, overlayfs)).unpatched.commit()
    expect(await readFile(`${tree.root}/file`, 'latin1')).toBe(numbers(20))
    expect(await seen(overlayfs, kernfs)).toEqual(o)
    await (await look(overlayfs, kernfs)).unpatched.commit()
    await expect(stat(`${tree.root}/new/script`)).rejects.toMatchObject({ code: 'ENOENT' })
    expect(await readFile(`${tree.root}/other`, 'latin1')).toBe(numbers(3))

    await (await look([...kernfs, ...overlayfs])).patched.commit()
    await (await look([...kernfs, ...overlayfs])).unpatched.commit()
    await expect(stat(`${tree.root}/new/script`)).rejects.toMatchObject({ code: 'ENOENT' })
    expect(await readFile(`${tree.root}/file`, 'latin1')).toBe(numbers(20))
  })
})

describe('commit', () => {
  it('writes nothing at all when one file cannot be written', async () => {
    await using tree = await makeTree({ file: numbers(20) })
    const { patched } = await inspect(new Workspace(tree.root), series)
    // A file where the new directory should be
    await writeFile(`${tree.root}/new`, 'in the way\n')
    await expect(patched.commit()).rejects.toMatchObject({ code: 'ENOTDIR' })
    expect(await contents(tree.root)).toEqual({ file: numbers(20), new: 'in the way\n' })
  })

  it('puts back what it had replaced, with the directories that it made, when a later rename fails', async () => {
    await using tree = await makeTree({ file: numbers(20) })
    const { patched } = await inspect(new Workspace(tree.root), [
      ...series,
      patch('0004-deep.patch', created.replaceAll('new/script', 'new/deep/script')),
    ])
    await mkdir(`${tree.root}/new/script`, { recursive: true })
    await expect(patched.commit()).rejects.toThrow('new/script was changed by somebody else meanwhile')
    expect(await contents(tree.root)).toEqual({
      file: numbers(20),
      'new/': '',
      'new/script/': '',
    })
  })

  it('changes nothing when somebody else has written to a file since it was read', async () => {
    await using tree = await makeTree({ file: numbers(20) })
    const { patched } = await inspect(new Workspace(tree.root), series)
    await appendFile(`${tree.root}/file`, 'mine\n')
    await expect(patched.commit()).rejects.toThrow('file was changed by somebody else meanwhile')
    expect(await contents(tree.root)).toEqual({ file: `${numbers(20)}mine\n` })
  })

  it('does not write through a link, be it the file or on the way to it', async () => {
    await using tree = await makeTree({ 'elsewhere/real': numbers(20) })
    await symlink('elsewhere/real', `${tree.root}/file`)
    await expect(states(tree.root)).rejects.toThrow(/file is not a regular file/)

    await using other = await makeTree({ file: numbers(20) })
    await symlink(`${tree.root}/elsewhere`, `${other.root}/new`)
    await expect(states(other.root)).rejects.toThrow(/new\/script is a link, or behind a link/)
  })

  it('does not write through a link that comes after the file was read', async () => {
    await using tree = await makeTree({ file: numbers(20), 'real/kept': '' })
    const { patched } = await inspect(new Workspace(tree.root), series)
    await symlink('real', `${tree.root}/new`)
    await expect(patched.commit()).rejects.toThrow(/behind a link/)
    expect(await contents(tree.root)).toMatchObject({ file: numbers(20), 'real/kept': '' })
    expect(await readdir(`${tree.root}/real`)).toEqual(['kept'])
  })

  it.runIf(process.getuid?.() === 0)('leaves files to their owners, and drops set-user-ID', async () => {
    await using tree = await makeTree({ file: numbers(20) })
    await chown(tree.root, 1234, 4321)
    await chown(`${tree.root}/file`, 1234, 5678)
    await chmod(`${tree.root}/file`, 0o4750)
    await (await inspect(new Workspace(tree.root), series)).patched.commit()
    const owner = async (path: string) => {
      const { uid, gid, mode } = await stat(`${tree.root}/${path}`)
      return [uid, gid, mode & 0o7777]
    }
    expect(await owner('file')).toEqual([1234, 5678, 0o750])
    expect(await owner('new')).toEqual([1234, 4321, 0o755])
    expect(await owner('new/script')).toEqual([1234, 4321, 0o755])
  })
})

describe('openTree', () => {
  it('reads the version from the Makefile', async () => {
    await using tree = await makeTree({})
    expect(await openTree(tree.root)).toEqual({ root: tree.root, release: '7.2.13', version: '7.2' })
  })

  it('refuses what is no kernel source', async () => {
    await using tree = await makeTree({ Makefile: 'all:\n' })
    await expect(openTree(tree.root)).rejects.toMatchObject({ code: 'USAGE' })
    await expect(openTree(`${tree.root}/none`)).rejects.toMatchObject({ code: 'USAGE' })
  })
})
