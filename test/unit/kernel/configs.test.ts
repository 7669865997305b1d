// SPDX-License-Identifier: MIT

import { readFile } from 'node:fs/promises'
import { describe, expect, it } from 'vitest'
import { configText } from '../../../src/kernel/configs.js'
import { patchesDirectory } from '../../../src/kernel/series.js'

const file = (name: string) => readFile(`${patchesDirectory}/configs/${name}.config`, 'utf8')

describe('configuration of a build', () => {
  it('is that of the target, for a version that wants nothing of its own', async () => {
    expect(await configText('uml', '7.2', null)).toBe(await file('uml'))
  })

  it('has what one version wants before what the variant does', async () => {
    const text = await configText('uml', '6.1', 'lockdep')
    expect(text).toBe([await file('uml'), await file('uml-6.1'), await file('lockdep')].join('\n'))
  })
})
