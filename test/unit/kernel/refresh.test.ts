// SPDX-License-Identifier: MIT

import { execFileSync, spawnSync } from 'node:child_process'
import { chmod, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { stateOf } from '../../../src/kernel/drift.js'
import { describeDrift, refreshCommand } from '../../../src/kernel/drift-commands.js'
import { rebase } from '../../../src/kernel/rebase.js'
import { planRefresh } from '../../../src/kernel/refresh.js'
import { loadFolders } from '../../../src/kernel/series.js'
import { openTree } from '../../../src/kernel/tree.js'
import { Workspace } from '../../../src/kernel/workspace.js'
import { makeTree, numbers } from './fixture.js'

afterEach(() => {
  process.exitCode = undefined
  vi.restoreAllMocks()
})

const identity = ['-c', 'user.name=Somebody', '-c', 'user.email=somebody@example.org']
const git = (root: string, ...args: string[]) =>
  execFileSync('git', ['-C', root, ...identity, ...args], {
    encoding: 'latin1',
    stdio: ['ignore', 'pipe', 'pipe'],
  })

const makefile = (sub: number) => `VERSION = 7\nPATCHLEVEL = 2\nSUBLEVEL = ${sub}\nEXTRAVERSION =\n`

/** Patches as git makes them, of two changes of one file and a new one, in a folder laid out as kernel-patches. */
async function makePatches(): Promise<AsyncDisposable & { root: string; texts: () => Promise<string[]> }> {
  await using base = await makeTree({ file: numbers(40), other: numbers(3) })
  git(base.root, 'init', '-q')
  git(base.root, 'add', '.')
  git(base.root, 'commit', '-q', '-m', 'base')
  const steps: [string, Record<string, string>][] = [
    ['change line 5', { file: numbers(40, { 5: 'five' }) }],
    [
      'change lines 7 and 30',
      { file: numbers(40, { 5: 'five', 7: 'seven', 30: 'thirty\nmore' }), new: 'a\nb\n' },
    ],
    [
      'change the last line',
      { file: numbers(40, { 5: 'five', 7: 'seven', 30: 'thirty\nmore', 40: 'forty' }) },
    ],
  ]
  for (const [subject, files] of steps) {
    for (const [name, content] of Object.entries(files)) await writeFile(`${base.root}/${name}`, content)
    git(base.root, 'add', '.')
    git(base.root, 'commit', '-q', '-m', subject)
  }
  const patches = await makeTree({
    '7.2/kernfs/0000-cover-letter.txt': 'About.\n\nBase: 7.2.13 as packaged.\n',
  })
  const folder = `${patches.root}/7.2/kernfs`
  git(base.root, 'format-patch', '-q', '-o', folder, 'HEAD~3')
  const names = (await readdir(folder)).filter((name) => name.endsWith('.patch')).sort()
  await writeFile(`${folder}/series`, `# Base: 7.2.13\n${names.join('\n')}\n`)
  const all = [...names, 'series', '0000-cover-letter.txt']
  const texts = () => Promise.all(all.map((name) => readFile(`${folder}/${name}`, 'latin1')))
  return { root: patches.root, texts, [Symbol.asyncDispose]: () => patches[Symbol.asyncDispose]() }
}

/** What `git am` says of the patches on a tree with these files. */
async function gitAm(patches: string, tree: string): Promise<void> {
  const folder = `${patches}/7.2/kernfs`
  const names = (await readdir(folder)).filter((name) => name.endsWith('.patch')).sort()
  git(tree, 'init', '-q')
  git(tree, 'add', '.')
  git(tree, 'commit', '-q', '-m', 'base')
  git(tree, 'am', '-q', ...names.map((name) => `${folder}/${name}`))
}

async function quiet(command: () => Promise<void>): Promise<string> {
  const lines: string[] = []
  vi.spyOn(process.stdout, 'write').mockImplementation((text) => lines.push(String(text)) > 0)
  await command()
  return lines.join('')
}

describe('kernel refresh', () => {
  // Two lines more at the top and one less in the middle: hunks move by 2 and by 1.
  const moved = `new\nlines\n${numbers(40, { 20: '' }).replace('19\n\n', '19\n')}`

  it('rewrites what has moved, so that git makes the very same patches of that tree', async () => {
    await using patches = await makePatches()
    await using tree = await makeTree({ Makefile: makefile(14), file: moved, other: 'else\n' })
    const said = await quiet(() => refreshCommand('7.2', { tree: tree.root }, patches.root))
    expect(said).toContain('7.2/kernfs, 7.2.13 to 7.2.14: applies with offsets\n')
    expect(said).toContain('      file, hunk 1: 2 lines down\n')
    expect(said).toContain('      file, hunk 2: 1 line down\n')
    expect(said).toContain('5 files written')
    const now = await patches.texts()
    expect(now.at(-2)).toMatch(/^# Base: 7\.2\.14\n/)
    expect(now.at(-1)).toContain('Base: 7.2.14 as packaged.\n')

    await gitAm(patches.root, tree.root)
    const changes = (text: string) =>
      text.slice(text.indexOf('\ndiff --git')).replace(/^@@(.*@@).*$/gm, '@@$1')
    const remade = git(tree.root, 'format-patch', '--stdout', '-3', 'HEAD').split(/^(?=From [0-9a-f]{40})/m)
    for (const [i, text] of remade.entries()) expect(changes(now[i]!).trim()).toBe(changes(text).trim())
    // And it takes them one by one without a word of offset.
    git(tree.root, 'reset', '-q', '--hard', 'HEAD~3')
    for (const text of now.slice(0, 3)) {
      const input = Buffer.from(text, 'latin1')
      const result = spawnSync('git', ['-C', tree.root, 'apply', '-v'], { input, encoding: 'latin1' })
      expect(result.status).toBe(0)
      expect(result.stderr).toContain('Applied patch file cleanly')
      expect(result.stderr).not.toContain('offset')
    }
  })

  it('changes nothing a second time', async () => {
    await using patches = await makePatches()
    await using tree = await makeTree({ Makefile: makefile(14), file: moved, other: numbers(3) })
    await quiet(() => refreshCommand('7.2.14', { tree: tree.root }, patches.root))
    const before = await patches.texts()
    const said = await quiet(() => refreshCommand('7.2.14', { tree: tree.root }, patches.root))
    expect(said).toContain('nothing to change')
    expect(await patches.texts()).toEqual(before)
  })

  it('only moves the base where all lines are where they were', async () => {
    await using patches = await makePatches()
    await using tree = await makeTree({ Makefile: makefile(14), file: numbers(40) })
    const before = await patches.texts()
    await quiet(() => refreshCommand('7.2', { tree: tree.root }, patches.root))
    const now = await patches.texts()
    expect(now.slice(0, 3)).toEqual(before.slice(0, 3))
    expect(now[3]).toBe(before[3]!.replace('7.2.13', '7.2.14'))
  })

  it('names every conflict, changes nothing and ends with 1', async () => {
    await using patches = await makePatches()
    await using tree = await makeTree({
      Makefile: makefile(14),
      file: `x\n${numbers(40, { 8: 'eight' })}`,
      new: 'x\n',
    })
    const before = await patches.texts()
    const said = await quiet(() => refreshCommand('7.2', { tree: tree.root }, patches.root))
    expect(said).toContain('    conflicts        0002 change lines 7 and 30\n')
    expect(said).toContain('      file, hunk 1: line 9 is "eight", the patch expects "8"\n')
    expect(said).toContain('      new, hunk 1: the file to create exists already\n')
    expect(said).toMatch(/nothing changed: .*\n$/)
    expect(process.exitCode).toBe(1)
    expect(await patches.texts()).toEqual(before)
  })

  it('judges later patches by themselves when an earlier one conflicts in another file', async () => {
    await using patches = await makePatches()
    await using tree = await makeTree({ Makefile: makefile(14), file: numbers(40), new: 'x\n' })
    const said = await quiet(() => refreshCommand('7.2', { tree: tree.root, dryRun: true }, patches.root))
    expect(said.split('\n').slice(1, 4)).toEqual([
      '    conflicts        0002 change lines 7 and 30',
      '      new, hunk 1: the file to create exists already',
      'nothing changed: a series with conflicts has to be rebased by hand',
    ])
  })

  it('takes a patch that was accepted upstream for a conflict', async () => {
    await using patches = await makePatches()
    await using tree = await makeTree({ Makefile: makefile(14), file: numbers(40, { 5: 'five' }) })
    const said = await quiet(() => refreshCommand('7.2', { tree: tree.root }, patches.root))
    expect(said).toContain('    is in already    0001 change line 5\n')
    expect(process.exitCode).toBe(1)
  })

  it('writes nothing on a dry run, and for programs says what it would', async () => {
    await using patches = await makePatches()
    await using tree = await makeTree({ Makefile: makefile(14), file: moved })
    const before = await patches.texts()
    const options = { tree: tree.root, dryRun: true, json: true }
    const { series, written } = JSON.parse(
      await quiet(() => refreshCommand('7.2', options, patches.root)),
    ) as {
      series: { state: string; patches: { state: string; moved: object[] }[] }[]
      written: number
    }
    expect(series[0]!.state).toBe('offsets')
    expect(series[0]!.patches[0]!.moved).toEqual([{ file: 'file', hunk: 1, by: 2 }])
    expect(written).toBe(0)
    expect(await patches.texts()).toEqual(before)
  })

  it('leaves all files as they were when one cannot be replaced', async () => {
    await using patches = await makePatches()
    await using tree = await makeTree({ Makefile: makefile(14), file: moved })
    const folders = await loadFolders('7.2', patches.root)
    const plan = await planRefresh(folders, await openTree(tree.root), patches.root)
    const before = await patches.texts()
    const last = `${patches.root}/7.2/kernfs/series`
    // The last to be written: all the others are in place by then.
    await rm(last)
    await mkdir(last)
    await expect(plan.files.commit()).rejects.toThrow()
    await rm(last, { recursive: true })
    await writeFile(last, before[3]!)
    await chmod(last, 0o644)
    expect(await patches.texts()).toEqual(before)
  })

  it('refuses what is older or another version', async () => {
    await using patches = await makePatches()
    await using older = await makeTree({ Makefile: makefile(12), file: numbers(40) })
    const refused = { code: 'USAGE', line: expect.stringMatching(/older than 7\.2\.13/) }
    await expect(refreshCommand('7.2', { tree: older.root }, patches.root)).rejects.toMatchObject(refused)
    await expect(refreshCommand('7.2.9', {}, patches.root)).rejects.toMatchObject(refused)
    await using other = await makeTree({
      Makefile: 'VERSION = 7\nPATCHLEVEL = 3\nSUBLEVEL =\nEXTRAVERSION =\n',
    })
    await expect(refreshCommand('7.2', { tree: other.root }, patches.root)).rejects.toMatchObject({
      code: 'USAGE',
    })
  })

  it('needs to know the base', async () => {
    await using patches = await makePatches()
    await writeFile(`${patches.root}/7.2/kernfs/series`, '0001-change-line-5.patch\n')
    await expect(loadFolders('7.2', patches.root)).rejects.toMatchObject({ code: 'KERNEL' })
  })
})

describe('what check-updates says', () => {
  const newest = { release: '7.2.14', packageVersion: '7.2.14-1' }
  const row = { version: '7.2', series: 'kernfs' as const, base: '7.2.13', newest }

  it('names release, patch, file, hunk and reason', async () => {
    await using patches = await makePatches()
    await using tree = await makeTree({ file: numbers(40, { 33: 'x' }), new: 'x\n' })
    const [folder] = await loadFolders('7.2', patches.root)
    const tried = await rebase(new Workspace(tree.root), folder!.patches)
    expect(describeDrift({ ...row, state: stateOf(tried), patches: tried })).toEqual([
      '7.2/kernfs on 7.2.13: 7.2.14 (7.2.14-1) is there, conflicts, 2 of 3 patches apply',
      '    conflicts        0002 change lines 7 and 30',
      '      file, hunk 2: line 33 is "x", the patch expects "33"',
      '      new, hunk 1: the file to create exists already',
      '    with offsets     0003 change the last line',
      '      file, hunk 1: 1 line up',
    ])
  })

  it('is short when all is well or nothing is newer', () => {
    expect(describeDrift({ ...row, state: 'applies', patches: [] })).toEqual([
      '7.2/kernfs on 7.2.13: 7.2.14 (7.2.14-1) is there, applies',
    ])
    expect(describeDrift({ ...row, base: '7.2.14', state: 'current', patches: [] })).toEqual([
      '7.2/kernfs on 7.2.14: the newest there',
    ])
    expect(describeDrift({ ...row, newest: null, state: 'current', patches: [] })).toEqual([
      '7.2/kernfs on 7.2.13: the mirror has no source of 7.2',
    ])
  })
})
