// SPDX-License-Identifier: MIT
import { describe, expect, it } from 'vitest'
import { mountOptions, superOptions } from '../../../src/probe/namespaces.js'

const table = [
  '24 1 0:22 / / rw,relatime - ext4 /dev/root rw,discard',
  '29 24 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,seclabel,nsdelegate,memory_recursiveprot',
  '30 24 0:12 / /sys/kernel/tracing rw - tracefs tracefs rw,gid=115',
  '31 24 0:31 / /tmp rw shared:4 master:2 - tmpfs tmpfs rw,size=1024k',
  '',
].join('\n')

describe('options of a mount that others have too', () => {
  it.each([
    ['cgroup2', 'rw,nsdelegate,memory_recursiveprot'],
    ['tracefs', 'rw,gid=115'],
    ['debugfs', 'rw'],
    ['tmpfs', 'rw'],
  ])('%s: %s', (type, options) => expect(mountOptions(type, [], table)).toBe(options))

  it('leaves alone what is asked for', () =>
    expect(mountOptions('cgroup', ['none', 'name=x'], table)).toBe('none,name=x'))

  it('says what the mount table has', () => {
    expect(superOptions(table, 'cgroup2')).toBe('rw,seclabel,nsdelegate,memory_recursiveprot')
    expect(superOptions(table, 'cgroup')).toBeNull()
  })
})
