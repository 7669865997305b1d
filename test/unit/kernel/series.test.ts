// SPDX-License-Identifier: MIT

import { readdir, readFile } from 'node:fs/promises'
import { describe, expect, it } from 'vitest'
import {
  folderFor,
  loadFolders,
  loadSeries,
  newestFolders,
  parsePatch,
  patchesDirectory,
  versions,
} from '../../../src/kernel/series.js'
import { five, mail, makeTree } from './fixture.js'

describe('parsePatch', () => {
  it('reads subject, message and DEP-3 fields', () => {
    expect(parsePatch('x', 'kernfs', mail('kernfs: a subject', five))).toMatchObject({
      subject: 'kernfs: a subject',
      message: 'First paragraph,\non two lines.\n\nSecond.',
      forwarded: 'no',
      appliedUpstream: 'no',
    })
  })

  it('reads a message to its end, with lists, and without the trailers', () => {
    const text = mail('x', five).replace(
      'Second.\n',
      'It does:\n\n- one\n\nForwarded: no\nSigned-off-by: A <a@b>\n',
    )
    expect(parsePatch('x', 'kernfs', text).message).toBe(
      'First paragraph,\non two lines.\n\nIt does:\n\n- one',
    )
  })

  it('refuses a file that is no mailbox patch', () => {
    expect(() => parsePatch('x', 'kernfs', five)).toThrow(/not a mailbox patch/)
    expect(() => parsePatch('x', 'kernfs', mail('nothing', ''))).toThrow(/not a mailbox patch/)
  })
})

describe('a series that has a folder for each of several point releases', () => {
  const folder = (base: string, subject: string) => ({
    series: `# Base: ${base}\n0001-a.patch\n`,
    '0001-a.patch': mail(subject, five),
  })
  const tree = () =>
    makeTree(
      Object.fromEntries(
        [
          ['kernfs', folder('6.12.117', 'kernfs')],
          ['overlayfs', folder('6.12.117', 'new')],
          ['overlayfs-6.12.107', folder('6.12.107', 'old')],
          ['overlayfs-6.12.9', folder('6.12.9', 'oldest')],
          ['overlay', folder('6.12.1', 'not a series')],
        ].flatMap(([name, files]) =>
          Object.entries(files!).map(([file, text]) => [`6.12/${name}/${file}`, text]),
        ),
      ),
    )

  it.each([
    ['6.12.118', 'new'],
    ['6.12.117', 'new'],
    ['6.12.117+deb13-amd64', 'new'],
    ['6.12.116', 'old'],
    ['6.12.107', 'old'],
    ['6.12.95', 'oldest'],
    ['6.12.95+deb12-cloud-amd64', 'oldest'],
    ['6.12.9', 'oldest'],
    // All are newer.
    ['6.12.8', 'oldest'],
    ['6.12', 'oldest'],
  ])('%s gets the newest that is not newer than itself: %s', async (release, subject) => {
    await using patches = await tree()
    const found = await loadSeries(release, 'overlayfs', patches.root)
    expect(found.map((patch) => patch.subject)).toEqual([subject])
    expect((await loadSeries(release, 'kernfs', patches.root)).map((p) => p.subject)).toEqual(['kernfs'])
  })

  it('is listed with the newest first, which alone is for what is newer', async () => {
    await using patches = await tree()
    const folders = await loadFolders('6.12', patches.root)
    expect(folders.map((f) => f.folder)).toEqual([
      '6.12/kernfs',
      '6.12/overlayfs',
      '6.12/overlayfs-6.12.107',
      '6.12/overlayfs-6.12.9',
    ])
    expect(newestFolders(folders).map((f) => f.folder)).toEqual(['6.12/kernfs', '6.12/overlayfs'])
    expect(folderFor(folders, 'test-only', '6.12.117')).toBeUndefined()
    expect(await loadSeries('6.13.1', 'overlayfs', patches.root)).toEqual([])
  })
})

describe('the series of the project', () => {
  it('has one line for every patch file, in their order, each with sign-off and status', async () => {
    expect(await versions()).toContain('7.2')
    for (const version of await versions()) {
      for (const { folder, series, patches } of await loadFolders(version)) {
        if (series === 'test-only') continue
        const files = (await readdir(`${patchesDirectory}/${folder}`)).filter((f) => f.endsWith('.patch'))
        expect(patches.map((p) => p.name)).toEqual(files.sort())
        for (const patch of patches) {
          expect(patch.text, patch.name).toMatch(/^Signed-off-by: /m)
          expect(patch.forwarded, patch.name).not.toBe('')
          expect(patch.appliedUpstream, patch.name).not.toBe('')
        }
        await readFile(`${patchesDirectory}/${folder}/0000-cover-letter.txt`)
      }
    }
  })
  it('is in the table of kernel-patches/README.md, with its base, and that nothing was sent', async () => {
    const text = await readFile(`${patchesDirectory}/README.md`, 'utf8')
    const rows = [...text.matchAll(/^\| (\d\S+\/\S+) \| (\d\S+) \|/gm)].map(
      ([, folder, base]) => `${folder} ${base}`,
    )
    const folders = (await Promise.all((await versions()).map((version) => loadFolders(version)))).flat()
    const own = folders.filter(({ series }) => series !== 'test-only')
    expect(rows.sort()).toEqual(own.map(({ folder, base }) => `${folder} ${base}`).sort())
    const sent = own.flatMap(({ patches }) =>
      patches.filter((patch) => !/^no(t-needed)?\b/.test(patch.forwarded)),
    )
    expect(text.includes('None of them has been sent anywhere yet')).toBe(sent.length === 0)
  })
})
