// SPDX-License-Identifier: MIT
import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, beforeEach, expect, it } from 'vitest'
import { type Handle, native } from '../../../src/native.js'
import { directories, lane, mount, onMounts, scratch, tree, umount } from './kernel.js'

onMounts('renaming and removing', () => {
  const base = scratch()
  const on = lane()
  let root: Handle

  beforeAll(async () => {
    directories(base, 'root')
    root = await tree(on, join(base, 'root'))
  })
  beforeEach(() => {
    rmSync(join(base, 'root/t'), { recursive: true, force: true })
    directories(base, 'root/t/a/b', 'precious')
    writeFileSync(join(base, 'precious/file'), 'keep')
    writeFileSync(join(base, 'root/t/a/b/\n\xff'), '')
    writeFileSync(join(base, 'root/t/a/file'), '')
    symlinkSync(join(base, 'precious'), join(base, 'root/t/a/link'))
  })

  it('renames beneath the root, and replaces nothing when told so', async () => {
    await native.rename(on, root, 't/a/file', 't/moved', { noReplace: true })
    writeFileSync(join(base, 'root/t/other'), 'other')
    await expect(native.rename(on, root, 't/other', 't/moved', { noReplace: true })).rejects.toMatchObject({
      code: 'EEXIST',
    })
    await native.rename(on, root, 't/other', 't/moved', { noReplace: false })
    expect(readFileSync(join(base, 'root/t/moved'), 'utf8')).toBe('other')
    for (const [from, to] of [
      ['t/moved', '../out'],
      ['t/a/link/file', 't/x'],
      ['t/moved', 't/a/link/x'],
      ['', 't/x'],
      ['t/moved', 't/..'],
    ]) {
      await expect(native.rename(on, root, from!, to!, { noReplace: false })).rejects.toMatchObject({
        code: expect.stringMatching(/EXDEV|ELOOP|EINVAL|ENOTDIR/),
      })
    }
    expect(existsSync(join(base, 'precious/file'))).toBe(true)
  })

  it('lists what it would remove, contents first, and removes just that', async () => {
    const would = await native.removeTree(on, root, 't', { dryRun: true })
    expect(existsSync(join(base, 'root/t/a/file'))).toBe(true)
    expect([...would].sort()).toEqual(
      ['t', 't/a', 't/a/b', 't/a/b/\n\xc3\xbf', 't/a/file', 't/a/link'].sort(),
    )
    for (const path of would)
      expect(would.some((p, i) => p.startsWith(`${path}/`) && i > would.indexOf(path))).toBe(false)
    expect(await native.removeTree(on, root, 't', { dryRun: false })).toEqual(would)
    expect(existsSync(join(base, 'root/t'))).toBe(false)
    expect(readFileSync(join(base, 'precious/file'), 'utf8')).toBe('keep')
  })

  it('removes a link, not what it points to', async () => {
    expect(await native.removeTree(on, root, 't/a/link', { dryRun: false })).toEqual(['t/a/link'])
    expect(existsSync(join(base, 'precious/file'))).toBe(true)
    await expect(native.removeTree(on, root, 't/a/none', { dryRun: false })).rejects.toMatchObject({
      code: 'ENOENT',
    })
    await expect(native.removeTree(on, root, '', { dryRun: false })).rejects.toMatchObject({ code: 'EINVAL' })
    await expect(native.removeTree(on, root, '../precious', { dryRun: false })).rejects.toMatchObject({
      code: 'EXDEV',
    })
  })

  it('removes nothing of a tree that has a mount in it', async () => {
    const plain = await native.openTree(on, join(base, 'root'), { clone: false })
    mount('-t', 'tmpfs', 'inside', join(base, 'root/t/a/b'))
    writeFileSync(join(base, 'root/t/a/b/mounted'), '')
    await expect(native.removeTree(on, plain, 't', { dryRun: false })).rejects.toMatchObject({
      code: 'EXDEV',
    })
    expect(existsSync(join(base, 'root/t/a/b/mounted'))).toBe(true)
    expect(existsSync(join(base, 'root/t/a/file'))).toBe(true)
    umount(join(base, 'root/t/a/b'))
    plain.close()
  })

  it('removes a tree deeper than one path can say', async () => {
    const script =
      'import os,sys\nos.chdir(sys.argv[1])\nfor i in range(600):\n os.mkdir("d"*20); os.chdir("d"*20)'
    execFileSync('python3', ['-c', script, join(base, 'root/t')])
    expect(await native.removeTree(on, root, 't', { dryRun: false })).toHaveLength(606)
    expect(existsSync(join(base, 'root/t'))).toBe(false)
  })

  it('locks a file against every other process until it is closed', async () => {
    const path = join(base, 'lock')
    const lock = await native.lockFile(on, path)
    expect(statSync(path).mode & 0o777).toBe(0o600)
    expect(await native.lockFile(on, path)).toBeNull()
    expect(spawnSync('flock', ['-n', path, 'true']).status).toBe(1)
    lock!.close()
    expect(spawnSync('flock', ['-n', path, 'true']).status).toBe(0)
    symlinkSync(join(base, 'precious/file'), join(base, 'lock-link'))
    await expect(native.lockFile(on, join(base, 'lock-link'))).rejects.toMatchObject({ code: 'ELOOP' })
  })
})
