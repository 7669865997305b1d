// SPDX-License-Identifier: MIT
import { execFileSync } from 'node:child_process'
import { chmodSync, chownSync, readlinkSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, expect, it } from 'vitest'
import { type Handle, native } from '../../../src/native.js'
import { directories, lane, mount, onMounts, scratch, tree } from './kernel.js'

onMounts('attributes, handles and permissions', () => {
  const base = scratch()
  const on = lane()
  let root: Handle

  beforeAll(async () => {
    directories(base, 'root/d')
    writeFileSync(join(base, 'root/d/f'), '')
    symlinkSync('f', join(base, 'root/d/link'))
    root = await tree(on, join(base, 'root'))
  })

  it('reads attributes of directories, of files, and not through links', async () => {
    const script =
      'import os,sys; [os.setxattr(p, "trusted.overlay.opaque", b"y\\0\\xff" * 200) for p in sys.argv[1:]]'
    execFileSync('python3', ['-c', script, join(base, 'root/d'), join(base, 'root/d/f')])
    const value = Buffer.concat(Array.from({ length: 200 }, () => Buffer.from('y\0\xff', 'latin1')))
    expect(await native.getXattr(on, root, 'd', 'trusted.overlay.opaque')).toEqual(value)
    expect(await native.getXattr(on, root, 'd/f', 'trusted.overlay.opaque')).toEqual(value)
    expect(await native.getXattr(on, root, 'd/link', 'trusted.overlay.opaque')).toBeNull()
    expect(await native.getXattr(on, root, 'd/f', 'trusted.overlay.redirect')).toBeNull()
    expect(await native.listXattrs(on, root, 'd/f')).toEqual(['trusted.overlay.opaque'])
    expect(await native.listXattrs(on, root, 'd/link')).toEqual([])
    await expect(native.getXattr(on, root, 'd/none', 'trusted.x')).rejects.toMatchObject({ code: 'ENOENT' })
  })

  it('names an inode by its handle, wherever it is moved, until it is gone', async () => {
    const handle = await native.handleAt(on, root, 'd/f')
    await native.rename(on, root, 'd/f', 'moved', { noReplace: true })
    expect(await native.handleAt(on, root, 'moved')).toEqual(handle)
    expect(await native.handleAt(on, root, 'd')).not.toEqual(handle)
    const open = await native.openByHandle(on, root, handle!)
    expect(readlinkSync(`/proc/self/fd/${open!.fd}`)).toMatch(/\/moved$/)
    open!.close()
    rmSync(join(base, 'root/moved'))
    expect(await native.openByHandle(on, root, handle!)).toBeNull()
    writeFileSync(join(base, 'root/d/f'), '')
  })

  it('says null where there are no handles', async () => {
    const proc = await native.openTree(on, '/proc', { clone: false })
    expect(await native.handleAt(on, proc, 'version')).toBeNull()
    proc.close()
  })

  it('asks as another user what the overlay checks, which is not what stat shows', async () => {
    const [lower, upper, work, merged] = directories(base, 'l', 'u', 'w', 'm')
    writeFileSync(join(lower!, 'secret'), '', { mode: 0o600 })
    chmodSync(join(lower!, 'secret'), 0o600)
    mount('-t', 'overlay', 'o', '-o', `lowerdir=${lower},upperdir=${upper},workdir=${work}`, merged!)
    const overlay = await tree(on, merged!)
    const users = [
      { uid: 1000, gid: 1000 },
      { uid: 0, gid: 0 },
      { uid: 1001, gid: 7 },
    ]
    expect(await native.accessAs(on, overlay, 'secret', users)).toEqual([0, 6, 0])
    chmodSync(join(lower!, 'secret'), 0o647)
    chownSync(join(lower!, 'secret'), 5, 7)
    // The new mode and owner are shown, and the old ones are checked: this is the stale answer.
    expect(statSync(join(merged!, 'secret'))).toMatchObject({ mode: 0o100647, uid: 5, gid: 7 })
    expect(await native.accessAs(on, overlay, 'secret', users)).toEqual([0, 6, 0])
    await native.reconfigure(on, [{ overlay, readOnly: false }])
    // Without its capabilities uid 0 is just another user, and no longer the owner.
    expect(await native.accessAs(on, overlay, 'secret', users)).toEqual([7, 7, 4])
    overlay.close()
  })

  it('is itself again afterwards', async () => {
    const own = (await native.openTree(on, '/proc', { clone: false })) as Handle
    const status = async () => {
      // The lane's own thread reads its own status.
      const path = `/proc/self/task/${await laneThread()}/status`
      return execFileSync(
        'grep',
        ['-E', '^(Uid|Gid|Groups|Cap)', path.replace('self', String(process.pid))],
        {
          encoding: 'latin1',
        },
      )
    }
    const laneThread = async () => {
      const tasks = execFileSync(
        'grep',
        ['-lx', 'test', '-r', `/proc/${process.pid}/task`, '--include=comm'],
        {
          encoding: 'latin1',
        },
      )
      return /task\/(\d+)\/comm/.exec(tasks)?.[1]
    }
    const before = await status()
    await native.accessAs(on, root, 'd', [{ uid: 1000, gid: 1000 }])
    expect(await status()).toBe(before)
    expect(statSync('/proc/self/environ').uid).toBe(process.getuid?.())
    own.close()
  })

  it('says when it cannot be that user', async () => {
    await expect(native.accessAs(on, root, 'd', [{ uid: -1, gid: 0 }])).rejects.toMatchObject({
      syscall: 'setfsuid',
    })
  })
})
