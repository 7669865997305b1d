// SPDX-License-Identifier: MIT

import { describe, expect, it } from 'vitest'
import { choosePatches } from '../../../src/kernel/select.js'

describe('choosePatches', () => {
  it('puts kernfs before overlayfs, which makes use of it', async () => {
    const names = (await choosePatches('7.2', 'all')).map((patch) => patch.series)
    expect(names).toEqual([...names].sort())
    expect(names).toContain('kernfs')
  })

  it('goes by the point release', async () => {
    const base = async (release: string) =>
      (await choosePatches(release, 'overlayfs')).find(({ name }) => name.startsWith('0014'))!.text
    expect(await base('6.12.117')).not.toBe(await base('6.12.107'))
    expect(await base('6.12.95')).toBe(await base('6.12.107'))
  })

  it('says which versions have the series that this one has not', async () => {
    await expect(choosePatches('5.4', 'kernfs')).rejects.toMatchObject({
      code: 'UNSUPPORTED_KERNEL',
      message: 'there is no kernfs series for Linux 5.4',
      hint: 'there is one for 6.1, 6.12, 7.2',
    })
  })
})
