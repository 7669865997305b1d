// SPDX-License-Identifier: MIT

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { rm, writeFile } from 'node:fs/promises'
import { setImmediate as turn } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { requireWhole, restore } from '../../../src/kernel/transaction.js'
import { Workspace } from '../../../src/kernel/workspace.js'
import { contents, makeTree } from './fixture.js'

const journal = '.lowerwatch-apply'
const places = Array.from({ length: 200 }, (_, i) => `deep/${i % 7}/${i}`)
const directories = Object.fromEntries(
  ['deep/', ...[0, 1, 2, 3, 4, 5, 6].map((n) => `deep/${n}/`)].map((d) => [d, '']),
)
/** The tree before: files to change and files to remove. */
const before = Object.fromEntries(
  places.flatMap((place) => ['change', 'remove'].map((name) => [`${place}-${name}`, 'old\n'])),
)

/**
 * Starts to change 200 files, remove 200 and make 200, and ends that process when the first ones have taken their places.
 * Returns what it ended by.
 */
async function endHalfWay(root: string, signal: NodeJS.Signals): Promise<NodeJS.Signals | null> {
  const module = (name: string) =>
    JSON.stringify(fileURLToPath(new URL(`../../../dist/kernel/${name}.js`, import.meta.url)))
  const program = `
    import { TreeFiles } from ${module('tree-files')}
    import { writeAll } from ${module('transaction')}
    const root = ${JSON.stringify(root)}
    const was = (path) => TreeFiles.with(root, async (files) => (await files.read(path))?.stat ?? null)
    const writes = []
    for (const place of ${JSON.stringify(places)})
      for (const [name, content] of [['change', 'new'], ['remove', null], ['create', 'new']])
        writes.push({ path: place + '-' + name, content, executable: false, was: await was(place + '-' + name) })
    // In directories that are made for them
    for (const write of writes) if (write.was === null) write.path = 'fresh/' + write.path
    await writeAll(root, writes)`
  const child = spawn(process.execPath, ['--input-type=module', '-e', program], {
    stdio: ['ignore', 'inherit', 'ignore'],
  })
  const exit = once(child, 'exit')
  const aside = `${root}/${places[20]}-change${journal}-old`
  while (child.exitCode === null && !existsSync(aside)) await turn()
  child.kill(signal)
  return (await exit)[1]
}

describe('changing many files', () => {
  it('is taken back by the next run when it was killed half way', async () => {
    await using tree = await makeTree(before)
    expect(await endHalfWay(tree.root, 'SIGKILL')).toBe('SIGKILL')
    expect(await contents(tree.root)).not.toMatchObject(before)
    await expect(requireWhole(tree.root)).rejects.toThrow(/was left half changed/)
    const other = new Workspace(tree.root)
    await other.put('other', 'text')
    await expect(other.commit()).rejects.toThrow(/was left half changed/)
    expect(await restore(tree.root)).toBe(600)
    expect(await contents(tree.root)).toEqual({ ...directories, ...before })
    expect(await restore(tree.root)).toBe(0)
    await other.commit()
  })

  it('is taken back at once when a signal comes', async () => {
    await using tree = await makeTree(before)
    expect(await endHalfWay(tree.root, 'SIGINT')).toBe('SIGINT')
    expect(await contents(tree.root)).toEqual({ ...directories, ...before })
  })

  it('is brought to its end when it was killed after the last file', async () => {
    const files = ['a', 'b'].map((path) => ({ path, existed: true }))
    await using tree = await makeTree({
      a: 'new\n',
      b: 'new\n',
      [`b${journal}-old`]: 'old\n',
      [journal]: JSON.stringify({ state: 'done', files, directories: [] }),
    })
    expect(await restore(tree.root)).toBe(2)
    expect(await contents(tree.root)).toEqual({ a: 'new\n', b: 'new\n' })
  })

  it('leaves a file alone that somebody else made where a new one was to be', async () => {
    const files = [{ path: 'a', existed: false }]
    await using tree = await makeTree({
      a: 'mine\n',
      [`a${journal}-new`]: 'new\n',
      [journal]: JSON.stringify({ state: 'exchanging', files, directories: [] }),
    })
    expect(await restore(tree.root)).toBe(1)
    expect(await contents(tree.root)).toEqual({ a: 'mine\n' })
  })

  it('refuses a journal that is none, and names that are in the way', async () => {
    await using tree = await makeTree({ a: 'old\n', [journal]: '{"state": "over"}' })
    await expect(restore(tree.root)).rejects.toThrow(/is not what `kernel apply` writes/)
    await rm(`${tree.root}/${journal}`)
    const workspace = new Workspace(tree.root)
    await workspace.put('a', 'new\n')
    for (const name of [`a${journal}-old`, `a${journal}-new`]) {
      await writeFile(`${tree.root}/${name}`, 'mine\n')
      await expect(workspace.commit()).rejects.toThrow(`${name} is in the way`)
      expect(await contents(tree.root)).toEqual({ a: 'old\n', [name]: 'mine\n' })
      await rm(`${tree.root}/${name}`)
    }
  })

  it('takes no notice of a journal that was never in its place', async () => {
    await using tree = await makeTree({ a: 'old\n', [`${journal}${journal}-new`]: '{"sta' })
    const workspace = new Workspace(tree.root)
    await workspace.put('a', 'new\n')
    await workspace.commit()
    expect(await contents(tree.root)).toEqual({ a: 'new\n' })
  })
})
