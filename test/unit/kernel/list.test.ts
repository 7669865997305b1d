// SPDX-License-Identifier: MIT

import { afterEach, describe, expect, it, vi } from 'vitest'
import { list } from '../../../src/kernel/list.js'
import { kernfsFunction, runningKernfs, runningOverlayfs } from '../../../src/kernel/running.js'
import { loadFolders, loadSeries, versions } from '../../../src/kernel/series.js'
import { makeTree } from './fixture.js'

afterEach(() => vi.restoreAllMocks())

/** The folders of a version, without that of what only tests need. */
async function seriesOf(version: string) {
  return (await loadFolders(version)).flatMap(({ series, ...folder }) =>
    series === 'test-only' ? [] : [{ ...folder, series }],
  )
}

async function listed(options: Parameters<typeof list>[0]): Promise<string[]> {
  const said: string[] = []
  vi.spyOn(process.stdout, 'write').mockImplementation((text) => said.push(String(text)) > 0)
  await list(options)
  return said.join('').trimEnd().split('\n')
}

describe('kernel list', () => {
  it('has a line for each patch, by number and subject, that fits a terminal, and what runs', async () => {
    const lines = await listed({})
    const expected: string[] = []
    for (const version of await versions())
      for (const { series, base, patches } of await seriesOf(version)) {
        expected.push(`Linux ${version}, ${series} on ${base}: ${patches.length} patches`)
        for (const { name, subject } of patches) expected.push(`  ${name.slice(0, 4)} ${subject}`)
      }
    expect(lines.slice(0, -3)).toEqual(expected)
    expect(Math.max(...lines.slice(0, -3).map((line) => line.length))).toBeLessThanOrEqual(80)
    expect(lines.slice(-3)).toEqual([
      expect.stringMatching(/^running Linux \d/),
      expect.stringMatching(/^ {2}overlayfs series (present|absent|unknown \(.+\))$/),
      expect.stringMatching(/^ {2}kernfs series (present|absent|unknown \(.+\))$/),
    ])
  })

  it('has the state of each patch of the series that is for a tree, and of no other', async () => {
    await using tree = await makeTree({})
    const lines = await listed({ tree: tree.root })
    const start = lines.findIndex((line) => line.startsWith('Linux 7.2, kernfs'))
    expect(lines[start + 1]).toMatch(/^ {2}0001 .* \[conflict\]$/)
    expect(lines.slice(0, start).filter((line) => line.endsWith(']'))).toEqual([])
  })

  it('has whole messages when asked, for people and for programs', async () => {
    const [patch] = await loadSeries('7.2', 'kernfs')
    const [first, ...rest] = patch!.message.split('\n')
    const lines = await listed({ messages: true })
    const start = lines.lastIndexOf(`  0001 ${patch!.subject}`)
    expect(lines.slice(start + 1, start + 3)).toEqual(['', `    ${first}`])
    expect(lines.slice(start + 3, start + 3 + rest.length)).toEqual(
      rest.map((l) => (l === '' ? '' : `    ${l}`)),
    )
    const json = JSON.parse((await listed({ json: true })).join('\n'))
    const row = json.series.find((r: Record<string, string>) => r.version === '7.2' && r.series === 'kernfs')
    expect(row.patches[0]).toMatchObject({ subject: patch!.subject, message: patch!.message })
    expect(Object.keys(json.running)).toEqual(['release', 'overlayfs', 'kernfs'])
  })
})

describe('what a running kernel has', () => {
  const parameter = 'sys/module/overlay/parameters/lower_changes'
  const symbols = (...names: string[]) => names.map((name) => `0000000000000000 T ${name}\n`).join('')

  it.each([
    ['the parameter of the overlayfs series', { [parameter]: 'off\n' }, 'present'],
    ['an overlay without it', { 'sys/module/overlay/refcnt': '0\n' }, 'absent'],
    ['no overlay loaded', {}, 'unknown (overlay is not loaded; `lowerwatch probe` tries it)'],
  ])('%s', async (_, files, answer) => {
    await using machine = await makeTree(files)
    expect(await runningOverlayfs(machine.root)).toBe(answer)
  })

  it.each([
    ['the function of the kernfs series', symbols('kernfs_notify', kernfsFunction), 'present'],
    ['a kernfs without it', symbols('kernfs_notify', `${kernfsFunction}_self`), 'absent'],
    ['no names', symbols('a'), 'unknown (/proc/kallsyms does not have kernfs; `lowerwatch probe` tries it)'],
    ['no file', null, 'unknown (/proc/kallsyms does not have kernfs; `lowerwatch probe` tries it)'],
  ])('%s', async (_, text, answer) => {
    await using machine = await makeTree(text === null ? {} : { 'proc/kallsyms': text })
    expect(await runningKernfs(machine.root)).toBe(answer)
  })

  it('is looked for by what each series of the project has', async () => {
    const brought = { kernfs: `\n+void ${kernfsFunction}(`, overlayfs: '\n+module_param_cb(lower_changes,' }
    for (const version of await versions())
      for (const { folder, series, patches } of await seriesOf(version))
        expect([folder, patches.some(({ text }) => text.includes(brought[series]))]).toEqual([folder, true])
  })
})
