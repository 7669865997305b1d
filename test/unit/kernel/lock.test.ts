// SPDX-License-Identifier: MIT

import { spawnSync } from 'node:child_process'
import { access, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { withLock } from '../../../src/kernel/lock.js'

let directory: string
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'lowerwatch-lock-'))
})
afterAll(() => rm(directory, { recursive: true, force: true }))

describe('withLock', () => {
  it('lets one in at a time and says that it waits', async () => {
    const path = join(directory, 'busy')
    const order: string[] = []
    let release = () => {}
    const released = new Promise<void>((resolve) => {
      release = resolve
    })
    const first = withLock(
      path,
      () => {},
      async () => {
        order.push('first in')
        // The second one may wait, and say so, before this runs.
        await released
        order.push('first out')
      },
    )
    const second = withLock(
      path,
      () => {
        order.push('waiting')
        release()
      },
      async () => void order.push('second in'),
    )
    await Promise.all([first, second])
    expect(order.toSpliced(order.indexOf('waiting'), 1)).toEqual(['first in', 'first out', 'second in'])
    expect(order.indexOf('waiting')).toBeLessThan(order.indexOf('first out'))
    await expect(access(path)).rejects.toMatchObject({ code: 'ENOENT' })
  })

  it('takes over from a process that is gone', async () => {
    const path = join(directory, 'abandoned')
    const gone = spawnSync('true').pid
    await writeFile(path, String(gone))
    expect(
      await withLock(
        path,
        () => expect.unreachable(),
        async () => 'in',
      ),
    ).toBe('in')
  })

  it('is free again after a failure', async () => {
    const path = join(directory, 'failed')
    await expect(
      withLock(
        path,
        () => {},
        () => Promise.reject(new Error('no')),
      ),
    ).rejects.toThrow('no')
    expect(
      await withLock(
        path,
        () => expect.unreachable(),
        async () => 'in',
      ),
    ).toBe('in')
  })
})
