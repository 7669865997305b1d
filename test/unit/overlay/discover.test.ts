// SPDX-License-Identifier: MIT
import { expect, it } from 'vitest'
import type { Mount } from '../../../src/native.js'
import { describeOverlays } from '../../../src/overlay/discover.js'
import { mountOf, pathInFileSystem, relativeTo, revalidates } from '../../../src/overlay/filesystems.js'

let ids = 0
function mount(mountPoint: string, fsType: string, more: Partial<Mount> = {}): Mount {
  ids++
  return {
    id: ids,
    parentId: 1,
    uniqueId: BigInt(1000 + ids),
    devMajor: 0,
    devMinor: 30 + ids,
    root: '/',
    mountPoint,
    fsType,
    mountOptions: 'rw,relatime',
    superOptions: 'rw',
    propagation: [],
    ...more,
  }
}

it('an overlay that is mounted in several places is one overlay, its mounts oldest first', () => {
  const superOptions = 'rw,lowerdir=/l,upperdir=/u,workdir=/w,xino=on'
  const device = { devMajor: 0, devMinor: 99 }
  const bind = mount('/bind', 'overlay', { ...device, superOptions, root: '/sub', uniqueId: 9n })
  const first = mount('/merged', 'overlay', { ...device, superOptions, uniqueId: 5n })
  const other = mount('/other', 'overlay', { superOptions: 'ro,lowerdir=/a:/b' })
  const overlays = describeOverlays([mount('/', 'ext4'), bind, first, other])
  expect(overlays.map(({ mounts }) => mounts.map(({ mountPoint }) => mountPoint))).toEqual([
    ['/merged', '/bind'],
    ['/other'],
  ])
  expect(overlays[0]).toMatchObject({
    device: '0:99',
    lower: ['/l'],
    upper: '/u',
    work: '/w',
    options: [['xino', 'on']],
  })
  expect(overlays[1]).toMatchObject({ lower: ['/a', '/b'], upper: null, work: null })
})

it('without unique ids the order of the mount table stays', () => {
  const device = { devMajor: 0, devMinor: 99, uniqueId: null, superOptions: 'ro,lowerdir=/a:/b' }
  const mounts = [mount('/y', 'overlay', device), mount('/x', 'overlay', device)]
  expect(describeOverlays(mounts)[0]?.mounts.map(({ mountPoint }) => mountPoint)).toEqual(['/y', '/x'])
})

it('the mount of a path is the topmost of the longest mount points', () => {
  const [root, a, upper] = [mount('/', 'ext4'), mount('/a', 'tmpfs'), mount('/a', 'xfs')]
  const mounts = [root, a, upper, mount('/a/b', 'proc')]
  expect(mountOf(mounts, '/a/x')).toBe(upper)
  expect(mountOf(mounts, '/ab')).toBe(root)
})

it('paths below a mount are told relative to its file system', () => {
  expect(relativeTo('/a/b', '/a')).toBe('b')
  expect(relativeTo('/a/b', '/')).toBe('a/b')
  expect(pathInFileSystem(mount('/m', 'overlay', { root: '/s/t' }), '/m/x')).toBe('s/t/x')
  expect(pathInFileSystem(mount('/m', 'overlay', { root: '/s/t' }), '/m')).toBe('s/t')
  expect(pathInFileSystem(mount('/m', 'overlay'), '/m')).toBe('')
})

it('an overlay revalidates when one of its layers does', () => {
  const cgroup = mount('/sys/fs/cgroup', 'cgroup2')
  const outer = mount('/m', 'overlay', { superOptions: 'ro,lowerdir=/sys/fs/cgroup/a:/plain' })
  const plain = mount('/p', 'overlay', { superOptions: 'ro,lowerdir=/plain:/plain2' })
  const mounts = [mount('/', 'ext4'), cgroup, outer, plain, mount('/f', 'fuse.sshfs')]
  expect(mounts.map((entry) => revalidates(entry, mounts))).toEqual([false, true, true, false, true])
})
