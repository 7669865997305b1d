// SPDX-License-Identifier: MIT

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { access, mkdtemp, rm, symlink } from 'node:fs/promises'
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
    let second: Promise<void> | undefined
    await withLock(
      path,
      () => expect.unreachable(),
      async () => {
        order.push('first in')
        await new Promise<void>((waits) => {
          second = withLock(
            path,
            () => {
              order.push('waiting')
              waits()
            },
            async () => void order.push('second in'),
          )
        })
        order.push('first out')
      },
    )
    await second
    expect(order).toEqual(['first in', 'waiting', 'first out', 'second in'])
    await expect(access(path)).rejects.toMatchObject({ code: 'ENOENT' })
  })

  it('takes over from a process that was killed', async () => {
    const path = join(directory, 'abandoned')
    const holder = spawn('flock', ['--no-fork', path, 'sh', '-c', 'echo; exec sleep 1000'])
    await once(holder.stdout, 'data')
    const entered = withLock(
      path,
      () => holder.kill('SIGKILL'),
      async () => holder.signalCode ?? (await once(holder, 'exit'))[1],
    )
    expect(await entered).toBe('SIGKILL')
    await expect(access(path)).rejects.toMatchObject({ code: 'ENOENT' })
  })

  it('does not follow a link', async () => {
    const path = join(directory, 'link')
    await symlink(join(directory, 'elsewhere'), path)
    const work = () => expect.unreachable()
    await expect(withLock(path, () => {}, work)).rejects.toMatchObject({ code: 'ELOOP' })
    await expect(access(join(directory, 'elsewhere'))).rejects.toMatchObject({ code: 'ENOENT' })
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
