// SPDX-License-Identifier: MIT

import { execFileSync } from 'node:child_process'
import { rename, rm, symlink, truncate, writeFile } from 'node:fs/promises'
import { describe, expect, it } from 'vitest'
import { openTree } from '../../../src/kernel/tree.js'
import { makeTree } from './fixture.js'

const version = (extra: string, sub = '13') =>
  `VERSION = 7\nPATCHLEVEL = 2\nSUBLEVEL = ${sub}\nEXTRAVERSION = ${extra}\n`

describe('openTree', () => {
  it('has the release with what is added to it', async () => {
    await using tree = await makeTree({ Makefile: version('-rc7+own_1~2.3') })
    expect(await openTree(tree.root)).toMatchObject({ release: '7.2.13-rc7+own_1~2.3', version: '7.2' })
    // A Makefile elsewhere, as in trees of links.
    await rename(`${tree.root}/Makefile`, `${tree.root}/real`)
    await symlink('real', `${tree.root}/Makefile`)
    expect(await openTree(tree.root)).toMatchObject({ version: '7.2' })
  })

  it.each([version('\x1b[2J'), version('$(shell id)'), version('-a/b'), version('', '1\x1b[2J')])(
    'takes no release that is not one: %j',
    async (Makefile) => {
      await using tree = await makeTree({ Makefile })
      await expect(openTree(tree.root)).rejects.toMatchObject({ code: 'USAGE' })
    },
  )

  it('reads the beginning of a regular file only, and waits for nobody', async () => {
    await using tree = await makeTree({ Makefile: version('') })
    const makefile = `${tree.root}/Makefile`
    // More than can be a string.
    await truncate(makefile, 2 ** 32)
    expect(await openTree(tree.root)).toMatchObject({ release: '7.2.13' })
    await rm(makefile)
    execFileSync('mkfifo', [makefile])
    let waited = false
    // Who waits for a writer gets one, so that this test has an end.
    const late = setTimeout(() => {
      waited = true
      void writeFile(makefile, version(''))
    }, 10_000)
    await expect(openTree(tree.root)).rejects.toMatchObject({ code: 'USAGE' })
    clearTimeout(late)
    expect(waited).toBe(false)
    for (const target of ['/dev/zero', 'Makefile', '/']) {
      await rm(makefile)
      await symlink(target, makefile)
      await expect(openTree(tree.root)).rejects.toMatchObject({ code: 'USAGE' })
    }
  })
})
