// SPDX-License-Identifier: MIT

import { chmod, mkdir, mkdtemp, readdir, rm, symlink, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { withLock } from '../../../src/kernel/lock.js'
import { markUsed, prune } from '../../../src/kernel/prune.js'

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lowerwatch-prune-'))
})
afterEach(() => rm(folder, { recursive: true, force: true }))

const key = (n: number) => String(n).padStart(12, '0')

/** A build that was used last so many hours ago. */
async function entry(name: string, hours: number, ends = ['.json', '.prepared.json', '.config', '.log']) {
  const used = new Date(Date.now() - hours * 3600_000)
  await mkdir(`${folder}/${name}/fs`, { recursive: true })
  await writeFile(`${folder}/${name}/fs/super.c`, '')
  for (const end of ends) await writeFile(`${folder}/${name}${end}`, '{}')
  for (const end of ['', ...ends]) await utimes(`${folder}/${name}${end}`, used, used)
}

describe('prune', () => {
  it('keeps the three that were used last and what was used within a day', async () => {
    for (let n = 1; n <= 5; n++) await entry(`7.2-uml-patched-${key(n)}`, n)
    await entry(`7.2-uml-patched-${key(6)}`, 30)
    await entry(`7.2-uml-patched-${key(7)}`, 200)
    expect(await prune(folder, '7.2-uml-patched')).toEqual([6, 7].map((n) => `7.2-uml-patched-${key(n)}`))
    const left = [1, 2, 3, 4, 5].flatMap((n) =>
      ['', '.config', '.json', '.log', '.prepared.json'].map((end) => `7.2-uml-patched-${key(n)}${end}`),
    )
    expect((await readdir(folder)).sort()).toEqual(left)
    expect(await prune(folder, '7.2-uml-patched')).toEqual([])
  })

  it('keeps three however old they are, and other kinds', async () => {
    for (let n = 1; n <= 4; n++) await entry(`7.2-uml-patched-${key(n)}`, n * 100)
    const others = ['7.2-uml-stock', '7.2-uml-kasan-patched', '17.2-uml-patched', '7.2-uml-patched-up']
    for (const other of others) await entry(`${other}-${key(9)}`, 9000)
    await writeFile(`${folder}/7.2-uml-patched-note`, '')
    expect(await prune(folder, '7.2-uml-patched')).toEqual([`7.2-uml-patched-${key(4)}`])
    for (const other of others) expect(await readdir(folder)).toContain(`${other}-${key(9)}`)
    expect(await readdir(folder)).toContain('7.2-uml-patched-note')
  })

  it('removes what an interrupted build, and an interrupted removal, left', async () => {
    for (let n = 1; n <= 3; n++) await entry(`6.12-uml-stock-${key(n)}`, 1)
    await entry(`6.12-uml-stock-${key(4)}`, 48, ['.prepared.json', '.config'])
    await entry(`6.12-uml-stock-${key(5)}`, 49, ['.json.pruned', '.config'])
    await entry(`6.12-uml-stock-${key(6)}.new`, 50, [])
    expect(await prune(folder, '6.12-uml-stock')).toEqual([4, 5, 6].map((n) => `6.12-uml-stock-${key(n)}`))
    expect((await readdir(folder)).filter((name) => !/-00000000000[123]/.test(name))).toEqual([])
  })

  it('leaves one that somebody marks as used', async () => {
    for (let n = 1; n <= 4; n++) await entry(`7.2-uml-patched-${key(n)}`, n * 100)
    expect(await markUsed(`${folder}/7.2-uml-patched-${key(4)}`)).toBe(true)
    expect(await prune(folder, '7.2-uml-patched')).toEqual([`7.2-uml-patched-${key(3)}`])
    expect(await markUsed(`${folder}/7.2-uml-patched-${key(3)}`)).toBe(false)
  })

  it('has nothing against an entry whose time cannot be changed', async () => {
    await symlink('/etc/passwd', `${folder}/entry.json`)
    await chmod(folder, 0o755)
    // Whoever is not root.
    if (process.getuid!() === 0) process.seteuid!(65534)
    try {
      await expect(utimes('/etc/passwd', 1, 1)).rejects.toMatchObject({ code: 'EPERM' })
      expect(await markUsed(`${folder}/entry`)).toBe(true)
      expect(await markUsed(`${folder}/none`)).toBe(false)
    } finally {
      process.seteuid!(process.getuid!())
    }
  })

  it('leaves one that somebody marks as used after it was found to be old', async () => {
    for (let n = 1; n <= 5; n++) await entry(`7.2-uml-patched-${key(n)}`, n * 100)
    const [first, second] = [4, 5].map((n) => `7.2-uml-patched-${key(n)}`)
    let pruned: Promise<string[]> | undefined
    await withLock(
      `${folder}/${second}.lock`,
      () => expect.unreachable(),
      async () => {
        pruned = prune(folder, '7.2-uml-patched')
        // It looked at all of them before it removed the first.
        await vi.waitFor(async () => expect(await readdir(folder)).not.toContain(`${first}.log`))
        expect(await markUsed(`${folder}/${second}`)).toBe(true)
      },
    )
    expect(await pruned).toEqual([first])
    expect(await markUsed(`${folder}/${second}`)).toBe(true)
  })
})
