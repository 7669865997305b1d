// SPDX-License-Identifier: MIT

import { readdir, readFile } from 'node:fs/promises'
import { describe, expect, it } from 'vitest'
import {
  loadSeries,
  parsePatch,
  patchesDirectory,
  seriesNames,
  versions,
} from '../../../src/kernel/series.js'
import { five, mail } from './fixture.js'

describe('parsePatch', () => {
  it('reads subject, first paragraph and DEP-3 fields', () => {
    expect(parsePatch('x', 'kernfs', mail('kernfs: a subject', five))).toMatchObject({
      subject: 'kernfs: a subject',
      summary: 'First paragraph, on two lines.',
      forwarded: 'no',
      appliedUpstream: 'no',
    })
  })

  it('refuses a file that is no mailbox patch', () => {
    expect(() => parsePatch('x', 'kernfs', five)).toThrow(/not a mailbox patch/)
    expect(() => parsePatch('x', 'kernfs', mail('nothing', ''))).toThrow(/not a mailbox patch/)
  })
})

describe('the series of the project', () => {
  it('has one line for every patch file, in their order, each with sign-off and status', async () => {
    expect(await versions()).toContain('7.2')
    for (const version of await versions()) {
      for (const name of seriesNames) {
        const patches = await loadSeries(version, name)
        if (patches.length === 0) continue
        const files = (await readdir(`${patchesDirectory}/${version}/${name}`)).filter((f) =>
          f.endsWith('.patch'),
        )
        expect(patches.map((p) => p.name)).toEqual(files.sort())
        for (const patch of patches) {
          expect(patch.text, patch.name).toMatch(/^Signed-off-by: /m)
          expect(patch.forwarded, patch.name).not.toBe('')
          expect(patch.appliedUpstream, patch.name).not.toBe('')
        }
        await readFile(`${patchesDirectory}/${version}/${name}/0000-cover-letter.txt`)
      }
    }
  })
})
