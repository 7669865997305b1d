// SPDX-License-Identifier: MIT
import { linkSync, lstatSync, statSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, expect, it } from 'vitest'
import type { Handle, Stat } from '../../../src/native.js'
import { native } from '../../../src/native.js'
import { directories, lane, mount, onMounts, scratch, tree, umount } from './kernel.js'

onMounts('looking at names', () => {
  const base = scratch()
  const on = lane()
  let root: Handle

  beforeAll(async () => {
    directories(base, 'root/d/e')
    writeFileSync(join(base, 'root/d/f'), 'hello', { mode: 0o640 })
    linkSync(join(base, 'root/d/f'), join(base, 'root/d/g'))
    symlinkSync('f', join(base, 'root/d/link'))
    root = await tree(on, join(base, 'root'))
  })

  it('agrees with lstat', async () => {
    for (const path of ['', 'd', 'd/f', 'd/link']) {
      const node = lstatSync(join(base, 'root', path), { bigint: true })
      const stat = (await native.statAt(on, root, path)) as Stat
      expect(stat).toMatchObject({
        mode: Number(node.mode),
        ino: node.ino,
        nlink: Number(node.nlink),
        uid: Number(node.uid),
        gid: Number(node.gid),
        sizeBytes: node.size,
        mtimeNs: node.mtimeNs,
        ctimeNs: node.ctimeNs,
      })
      expect((BigInt(stat.devMajor) << 8n) | BigInt(stat.devMinor)).toBe(node.dev)
    }
  })

  it('shows device numbers of device nodes', async () => {
    const dev = await native.openTree(on, '/dev', { clone: false })
    expect(await native.statAt(on, dev, 'null')).toMatchObject({ rdevMajor: 1, rdevMinor: 3 })
    dev.close()
  })

  it('tells a missing path from one that may not be looked at', async () => {
    expect(await native.statAt(on, root, 'd/none')).toBeNull()
    expect(await native.statAt(on, root, 'd/f/below-a-file')).toBeNull()
    await expect(native.statAt(on, root, '../root')).rejects.toMatchObject({ code: 'EXDEV' })
    await expect(native.statAt(on, root, 'd/link/x')).rejects.toMatchObject({ code: 'ELOOP' })
  })

  it('answers many names of a directory at once', async () => {
    const stats = await native.statNames(on, root, 'd', ['f', 'none', 'e', '..', 'e/..', ''])
    expect(stats.map((s) => (s !== null && typeof s === 'object' ? s.ino : s))).toEqual([
      statSync(join(base, 'root/d/f'), { bigint: true }).ino,
      null,
      statSync(join(base, 'root/d/e'), { bigint: true }).ino,
      -22,
      -22,
      -22,
    ])
    expect(await native.statNames(on, root, 'none', ['a', 'b'])).toEqual([null, null])
  })

  it('does not take a mount for the name it covers', async () => {
    const plain = await native.openTree(on, join(base, 'root'), { clone: false })
    mount('-t', 'tmpfs', 'cover', join(base, 'root/d/e'))
    expect(await native.statNames(on, plain, 'd', ['e'])).toEqual([-18])
    umount(join(base, 'root/d/e'))
    plain.close()
  })

  it('lists every entry but the two dots, from the start each time', async () => {
    const names = Array.from({ length: 2000 }, (_, i) => `name-${i}-${'x'.repeat(40)}`)
    directories(base, 'root/many')
    for (const name of names) writeFileSync(join(base, 'root/many', name), '')
    for (let round = 0; round < 2; round++) {
      const entries = await native.readDirectory(on, root, 'many')
      expect(entries.map((entry) => entry.name).sort()).toEqual(names.sort())
    }
    const types = Object.fromEntries((await native.readDirectory(on, root, 'd')).map((e) => [e.name, e.type]))
    expect(types).toEqual({ e: 4, f: 8, g: 8, link: 10 })
    await expect(native.readDirectory(on, root, 'd/f')).rejects.toMatchObject({ code: 'ENOTDIR' })
  })

  it('leaves the access time of what it reads alone', async () => {
    const path = join(base, 'root/quiet')
    directories(base, 'root/quiet')
    // Older than the modification time: relatime would write a new one at the first reading.
    utimesSync(path, 1000, 2000)
    await native.readDirectory(on, root, 'quiet')
    await native.listingHas(on, root, 'quiet', ['x'])
    expect(statSync(path).atimeMs).toBe(1_000_000)
  })
})
