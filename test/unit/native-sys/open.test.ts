// SPDX-License-Identifier: MIT
import { constants, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, expect, it } from 'vitest'
import { fromText, toBuffer } from '../../../src/bytes.js'
import { type Handle, native } from '../../../src/native.js'
import { directories, lane, mount, mountLines, onMounts, scratch, tree, umount } from './kernel.js'

const { O_DIRECTORY, O_RDONLY, O_CREAT, O_WRONLY, O_EXCL } = constants

onMounts('opening beneath a root', () => {
  const base = scratch()
  const on = lane()
  let root: Handle

  beforeAll(async () => {
    directories(base, 'root/sub', 'outside', 'root/mounted')
    writeFileSync(join(base, 'outside/secret'), 'secret')
    writeFileSync(join(base, 'root/sub/file'), 'text')
    symlinkSync('../outside', join(base, 'root/out'))
    symlinkSync('sub', join(base, 'root/in'))
    symlinkSync('/proc/self/fd', join(base, 'root/magic'))
    root = await tree(on, join(base, 'root'))
  })

  const refused = (path: string) =>
    native.openBeneath(on, root, path, O_RDONLY).then(
      (handle) => {
        handle.close()
        return 'opened'
      },
      (error) => `${error.syscall}: ${error.code}`,
    )

  it('opens what is there, with the descriptor closed on exec', async () => {
    const handle = await native.openBeneath(on, root, 'sub/file', O_RDONLY)
    expect(readFileSync(handle.fd, 'utf8')).toBe('text')
    const flags = /flags:\s+0(\d+)/.exec(readFileSync(`/proc/self/fdinfo/${handle.fd}`, 'utf8'))?.[1]
    expect(Number.parseInt(flags ?? '', 8) & 0o2000000).toBe(0o2000000)
    handle.close()
    expect(handle.fd).toBe(-1)
  })

  it('opens the root itself by the empty path', async () => {
    const handle = await native.openBeneath(on, root, '', O_RDONLY | O_DIRECTORY)
    expect(handle.fd).toBeGreaterThan(2)
    handle.close()
  })

  it('refuses every way out of the root', async () => {
    expect(await refused('..')).toBe('openat2: EXDEV')
    expect(await refused('sub/../../outside/secret')).toBe('openat2: EXDEV')
    expect(await refused(join(base, 'outside/secret'))).toBe('openat2: EXDEV')
    expect(await refused('out/secret')).toBe('openat2: ELOOP')
    expect(await refused('in/file')).toBe('openat2: ELOOP')
    expect(await refused('in')).toBe('openat2: ELOOP')
    expect(await refused('magic/0')).toBe('openat2: ELOOP')
  })

  it('refuses a path with a NUL in it instead of opening what is before it', async () => {
    expect(await refused('sub\0/nothing')).toBe('openat2: EINVAL')
    await expect(native.openTree(on, `${base}\0x`, { clone: false })).rejects.toMatchObject({
      code: 'EINVAL',
    })
  })

  it('refuses a mount below the root', async () => {
    const plain = await native.openTree(on, fromText(join(base, 'root')), { clone: false })
    mount('-t', 'tmpfs', 'in-the-way', join(base, 'root/mounted'))
    const error = await native.openBeneath(on, plain, 'mounted', O_RDONLY).catch((e) => e)
    expect(error).toMatchObject({ code: 'EXDEV', syscall: 'openat2' })
    // The clone, made before, does not see it.
    const handle = await native.openBeneath(on, root, 'mounted', O_RDONLY)
    handle.close()
    plain.close()
    umount(join(base, 'root/mounted'))
  })

  it('does not let later mounts below a shared original into a clone', async () => {
    directories(base, 'shared')
    mount('-t', 'tmpfs', 'shared', join(base, 'shared'))
    mount('--make-shared', join(base, 'shared'))
    directories(base, 'shared/below')
    const clone = await tree(on, join(base, 'shared'))
    mount('-t', 'tmpfs', 'late', join(base, 'shared/below'))
    writeFileSync(join(base, 'shared/below/visible'), '')
    expect(await native.readDirectory(on, clone, 'below')).toEqual([])
    clone.close()
    umount(join(base, 'shared/below'))
    umount(join(base, 'shared'))
  })

  it('keeps a clone usable, and the original mount not busy', async () => {
    directories(base, 'busy')
    mount('-t', 'tmpfs', 'busy', join(base, 'busy'))
    writeFileSync(join(base, 'busy/file'), 'kept')
    const clone = await tree(on, join(base, 'busy'))
    const plain = await native.openTree(on, fromText(join(base, 'busy')), { clone: false })
    // What a plain descriptor does is the difference that the clone makes.
    expect(() => umount(join(base, 'busy'))).toThrow(/busy/)
    plain.close()
    umount(join(base, 'busy'))
    expect(mountLines().some((line) => line.includes(join(base, 'busy')))).toBe(false)
    const file = await native.openBeneath(on, clone, 'file', O_RDONLY)
    expect(readFileSync(file.fd, 'utf8')).toBe('kept')
    file.close()
    clone.close()
  })

  it('takes names that are no text', async () => {
    for (const name of ['\xff\xfe', 'new\nline', `quote'"\\`, 'x'.repeat(255)]) {
      const made = await native.openBeneath(on, root, name, O_CREAT | O_EXCL | O_WRONLY, 0o600)
      made.close()
      expect(
        readFileSync(Buffer.concat([toBuffer(fromText(join(base, 'root/'))), toBuffer(name)])),
      ).toHaveLength(0)
      expect((await native.readDirectory(on, root, '')).map((entry) => entry.name)).toContain(name)
      expect(await native.statAt(on, root, name)).toMatchObject({ mode: 0o100600 })
    }
  })

  it('says what failed in one line', async () => {
    const error = await native.openBeneath(on, root, 'no\nway', O_RDONLY).catch((e) => e)
    expect(error).toBeInstanceOf(Error)
    expect(error).toMatchObject({ code: 'ENOENT', errno: 2, syscall: 'openat2' })
    expect(error.message).toBe('openat2: ENOENT: No such file or directory (no\\x0away)')
  })

  it('reads a link without following it', async () => {
    expect(await native.readLink(on, root, 'out')).toBe('../outside')
    await expect(native.readLink(on, root, 'sub')).rejects.toMatchObject({ syscall: 'readlinkat' })
  })

  it('refuses a closed Handle, and finishes a call whose Handle is closed while it waits', async () => {
    const other = await tree(on, join(base, 'root'))
    const before = native.statAt(on, other, 'sub')
    other.close()
    expect(await before).toMatchObject({ nlink: 2 })
    expect(() => native.statAt(on, other, 'sub')).toThrow(/closed/)
    expect(() => native.statAt(on, {} as Handle, 'sub')).toThrow(/expected a Handle/)
    other.close()
  })

  it('makes directories only beneath the root', async () => {
    await native.makeDirectory(on, root, 'sub/made', 0o700)
    expect(await native.statAt(on, root, 'sub/made')).toMatchObject({ mode: 0o040700 })
    await expect(native.makeDirectory(on, root, 'sub/made', 0o700)).rejects.toMatchObject({ code: 'EEXIST' })
    await expect(native.makeDirectory(on, root, 'out/made', 0o700)).rejects.toMatchObject({ code: 'ENOTDIR' })
    await expect(native.makeDirectory(on, root, '..', 0o700)).rejects.toMatchObject({ code: 'EINVAL' })
    expect(readdirSync(join(base, 'outside'))).toEqual(['secret'])
  })
})
