// SPDX-License-Identifier: MIT
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type Change, Kind, native, type Snapshot } from '../../../src/native.js'
import { Fixture, opaque } from './fixture.js'

let f: Fixture
let snapshot: Snapshot

beforeEach(async () => {
  f = new Fixture()
  await f.sh(
    'mkdir -p layer/a/b outside/o; touch layer/f layer/a/g layer/a/b/h outside/o/p; ln -s ../outside layer/l',
  )
  snapshot = await make({ attributes: true, maxDirectories: 100 })
})
afterEach(() => {
  snapshot.close()
  f.close()
})

const make = async (options: { attributes: boolean; maxDirectories: number }) =>
  new native.Snapshot(5, await f.root(f.path('layer')), options)
const look = (directory = '', recursive = true) => snapshot.rescan(f.lane, directory, { recursive })
/** `path kinds` without the bits of the directories above, whose times change with what is in them. */
const text = (changes: Change[]) =>
  changes
    .filter((change) => change.kind !== (Kind.attributes | Kind.directory))
    .map((change) => `${change.directory}/${change.name} ${change.kind}`)
    .sort()

test('the first look remembers and the second finds nothing', async () => {
  expect(await look()).toEqual([])
  expect(snapshot.directories).toBe(3)
  expect(await look()).toEqual([])
})

test('names that came, went, or became something else', async () => {
  await look()
  await f.sh('touch layer/a/new; rm layer/a/b/h; rm layer/f; mkdir layer/f; mkdir -p layer/n/m')
  expect(text(await look())).toEqual([
    `/f ${Kind.create | Kind.delete | Kind.directory}`,
    `/n ${Kind.create | Kind.directory}`,
    `a/b/h ${Kind.delete}`,
    `a/new ${Kind.create}`,
  ])
  expect(snapshot.directories).toBe(6)
})

test('a directory that went is one change, and forgotten with all below', async () => {
  await look()
  await f.sh('rm -r layer/a')
  expect(text(await look())).toEqual([`/a ${Kind.delete | Kind.directory}`])
  expect(snapshot.directories).toBe(1)
})

test('what was in the directory that was asked for is told when it is gone', async () => {
  await look()
  await f.sh('rm -r layer/a')
  expect(text(await look('a'))).toEqual([`a/b ${Kind.delete | Kind.directory}`, `a/g ${Kind.delete}`])
})

test('a directory replaced by another of the same name is looked at anew', async () => {
  await look()
  await f.sh('mv layer/a gone; mkdir layer/a; touch layer/a/g')
  expect(text(await look())).toEqual([`/a ${Kind.create | Kind.delete | Kind.directory}`])
  await f.sh('rm layer/a/g')
  expect(text(await look())).toEqual([`a/g ${Kind.delete}`])
})

test('mode, owner and xattrs are attributes; a file replaced by rename is another file', async () => {
  await look()
  await f.sh('chmod 600 layer/f; echo x > layer/a/.g; mv layer/a/.g layer/a/g')
  expect(text(await look())).toEqual([`/f ${Kind.attributes}`, `a/g ${Kind.create | Kind.delete}`])
  await f.sh(`python3 -c 'import os; os.setxattr("layer/a/b", "${opaque}", b"y")'`)
  const changes = await look()
  expect(changes).toContainEqual({
    layer: 5,
    directory: 'a',
    name: 'b',
    kind: Kind.attributes | Kind.directory,
  })
})

test('without attributes a mode is not looked at', async () => {
  snapshot.close()
  snapshot = await make({ attributes: false, maxDirectories: 100 })
  await look()
  await f.sh('chmod 600 layer/f; touch layer/x')
  expect(await look()).toEqual([{ layer: 5, directory: '', name: 'x', kind: Kind.create }])
})

test('only the one directory, when not recursive', async () => {
  await look('a', false)
  expect(snapshot.directories).toBe(1)
  await f.sh('touch layer/a/x layer/a/b/y')
  expect(text(await look('a', false))).toEqual([`a/x ${Kind.create}`])
})

test('directories beyond the bound are dirty at every look', async () => {
  snapshot.close()
  snapshot = await make({ attributes: true, maxDirectories: 2 })
  expect(await look()).toEqual([{ layer: 5, directory: 'a/b', name: '', kind: Kind.directoryDirty }])
  expect(await look()).toEqual([{ layer: 5, directory: 'a/b', name: '', kind: Kind.directoryDirty }])
  expect(snapshot.directories).toBe(2)
})

test('links are not followed, and nothing above the root is reached', async () => {
  await look()
  expect(await look('l')).toEqual([])
  expect(await look('../outside')).toEqual([])
  expect(await look('l/o')).toEqual([])
  expect(snapshot.directories).toBe(3)
})

test('names are bytes', async () => {
  await look()
  await f.sh(`touch $'layer/a/\\377\\n'`)
  expect(text(await look())).toEqual([`a/\xff\n ${Kind.create}`])
})

test('a tree that is being removed and made while it is looked at does no harm', async () => {
  const busy = f.sh('for i in {1..8}; do mkdir -p layer/t/{1..10}/{1..5}; rm -r layer/t; done')
  let looks = 0
  let over = false
  busy.finally(() => {
    over = true
  })
  while (!over) {
    await look()
    looks++
  }
  await busy
  await look()
  expect(looks).toBeGreaterThan(1)
  expect(await look()).toEqual([])
  expect(snapshot.directories).toBe(3)
})

test('after close nothing is looked at', async () => {
  snapshot.close()
  await expect(look()).rejects.toMatchObject({ code: 'ECANCELED' })
})
