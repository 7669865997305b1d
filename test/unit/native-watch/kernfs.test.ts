// SPDX-License-Identifier: MIT
import { spawnSync } from 'node:child_process'
import { mkdirSync, readFileSync, rmdirSync } from 'node:fs'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { Fixture, isRoot, Kind, scopesHere } from './fixture.js'

const mounts = readFileSync('/proc/self/mountinfo', 'utf8').split('\n')
const mounted = (type: string) => mounts.find((line) => line.includes(` - ${type} `))?.split(' ')[4]

const cgroup2 = isRoot ? mounted('cgroup2') : undefined
if (cgroup2 === undefined) console.warn('skipped: events of cgroups need root and a mounted cgroup2')

describe.skipIf(cgroup2 === undefined).each(scopesHere())('cgroup2, scope %s', (scope) => {
  let f: Fixture
  let top: string
  beforeEach(() => {
    f = new Fixture()
    top = `${cgroup2}/lowerwatch-test-${process.pid}`
    mkdirSync(top)
  })
  afterEach(() => {
    f.close()
    spawnSync('find', [top, '-depth', '-type', 'd', '-exec', 'rmdir', '{}', ';'])
  })
  const arm = () => f.add(1, top, scope, { modifyNames: ['cgroup.subtree_control'] })

  test('cgroups made, changed and removed', async () => {
    const armed = await arm()
    // FAN_MARK_FILESYSTEM takes kernfs from 6.6 on.
    expect(armed.scope).toBe(scope)
    await f.sh(`mkdir -p ${top}/a/b`)
    await f.seen('', 'a', Kind.create | Kind.directory)
    await f.seen('a', 'b', Kind.create | Kind.directory)
    await f.sh(`chown 1 ${top}/a/cgroup.procs; chmod 700 ${top}/a/b`)
    await f.seen('a', 'cgroup.procs', Kind.attributes)
    await f.seen('a', 'b', Kind.attributes | Kind.directory)
    await f.sh(`rmdir ${top}/a/b ${top}/a`)
    await f.seen('a', 'b', Kind.delete | Kind.directory)
    await f.seen('', 'a', Kind.delete | Kind.directory)
  })

  test('a write to cgroup.subtree_control is a modify, a write to another file is nothing', async () => {
    await arm()
    await f.sh(`mkdir ${top}/a; echo 5 > ${top}/cgroup.max.depth; echo > ${top}/cgroup.subtree_control`)
    await f.seen('', 'cgroup.subtree_control', Kind.modify)
    expect(f.kinds('', 'cgroup.max.depth')).toBe(0)
  })

  test('the removal of the root is noticed although its link count stays', async () => {
    await arm()
    rmdirSync(top)
    await f.sh(`mkdir ${top}; rmdir ${top}`)
    await f.seen('', '', Kind.layerGone)
  })
})

describe('sysfs', () => {
  test('takes no filesystem mark, and says so', async () => {
    const f = new Fixture()
    const options = {
      scopes: ['filesystem' as const, 'inode' as const],
      modifyNames: [],
      maxDirectories: 10_000,
    }
    const armed = await f.watcher.addLayer(1, await f.root('/sys/kernel'), options)
    expect(armed.scope).toBe('inode')
    expect(armed.reasons).toEqual([isRoot ? 'filesystem: EOPNOTSUPP' : 'filesystem: EPERM'])
    expect(armed.directories).toBeGreaterThan(1)
    f.close()
  })
})
