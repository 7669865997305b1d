// SPDX-License-Identifier: MIT

import { readdir, readFile } from 'node:fs/promises'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { apply, status } from '../../../src/kernel/commands.js'
import { loadSeries } from '../../../src/kernel/series.js'
import { makeTree } from './fixture.js'

afterEach(() => {
  process.exitCode = undefined
  vi.restoreAllMocks()
})

/** What a command prints. */
async function printed(command: () => Promise<void>): Promise<string> {
  const lines: string[] = []
  vi.spyOn(process.stdout, 'write').mockImplementation((text) => lines.push(String(text)) > 0)
  await command()
  return lines.join('')
}

describe('the real series on a tree that it does not fit', () => {
  it('names every hunk, changes nothing and ends with 1', async () => {
    await using tree = await makeTree({ 'fs/kernfs/dir.c': 'int x;\n' })
    const text = await printed(() => apply({ tree: tree.root, series: 'kernfs' }))
    const first = (await loadSeries('7.2', 'kernfs'))[0]!
    expect(text).toContain(`conflicts       kernfs/0001 ${first.subject}\n`)
    expect(text).toContain('    fs/kernfs/Makefile, hunk 1: the file is missing\n')
    expect(text).toMatch(/fs\/kernfs\/dir\.c, hunk 1: nothing like it in the file/)
    expect(text).toMatch(/nothing changed: \d of \d patches do not fit\n$/)
    expect(process.exitCode).toBe(1)
    expect((await readdir(tree.root)).sort()).toEqual(['Makefile', 'fs'])
    expect(await readFile(`${tree.root}/fs/kernfs/dir.c`, 'latin1')).toBe('int x;\n')
  })

  it('has a status for programs', async () => {
    await using tree = await makeTree({})
    const text = await printed(() => status({ tree: tree.root, series: 'kernfs', json: true }))
    const { patches } = JSON.parse(text) as { patches: { state: string; conflicts: object[] }[] }
    expect(patches.map((p) => p.state)).not.toContain('applied')
    expect(patches[0]!.conflicts).toContainEqual({
      file: 'fs/kernfs/Makefile',
      hunk: 1,
      why: 'the file is missing',
    })
    expect(process.exitCode).toBe(1)
  })
})
