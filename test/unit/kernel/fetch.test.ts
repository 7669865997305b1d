// SPDX-License-Identifier: MIT
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { writeRecord } from '../../../src/kernel/cache.js'
import { cachedSource } from '../../../src/kernel/fetch.js'

it('takes the source that the series are made for, also when a newer one is there, and else the newest', async () => {
  const root = await mkdtemp(join(tmpdir(), 'lowerwatch-fetch-'))
  try {
    for (const packageVersion of [
      '6.12.95-1~bpo12+1',
      '6.12.107-1',
      '6.12.117-1',
      '6.12.107-2',
      '7.2.13-1',
    ]) {
      await mkdir(`${root}/src/${packageVersion}`, { recursive: true })
      const version = packageVersion.split('.').slice(0, 2).join('.')
      await writeRecord(`${root}/src/${packageVersion}`, {
        version,
        packageVersion,
        identity: 'x',
        tree: 'y',
      })
    }
    const taken = async (version: string, base?: string) =>
      (await cachedSource(version, base, root))?.packageVersion ?? null
    expect(await taken('6.12', '6.12.107')).toBe('6.12.107-2')
    expect(await taken('6.12', '6.12.95')).toBe('6.12.95-1~bpo12+1')
    expect(await taken('6.12', '6.12.120')).toBe('6.12.117-1')
    expect(await taken('6.12')).toBe('6.12.117-1')
    expect(await taken('6.1', '6.1.176')).toBe(null)
  } finally {
    await rm(root, { recursive: true, force: true })
  }
})
