// SPDX-License-Identifier: MIT
import { mkdirSync } from 'node:fs'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { Fixture, Kind, opaque, scopesHere } from './fixture.js'

describe.each(scopesHere())('scope %s', (scope) => {
  let f: Fixture

  beforeEach(() => {
    f = new Fixture()
    mkdirSync(f.path('layer/sub'), { recursive: true })
  })
  afterEach(() => f.close())

  const arm = () => f.add(1, f.path('layer'), scope)

  test('is armed without a reason against it, and counts the directories it watches', async () => {
    const armed = await arm()
    expect(armed).toEqual({
      scope,
      reasons: [],
      directories: scope === 'filesystem' ? 0 : 2,
      unwatched: [],
      unwatchedReason: '',
    })
    expect(f.watcher.layerState(1)).toEqual(armed)
    expect(f.watcher.layerState(2)).toBeNull()
  })

  test('a name that is created, changed in mode, and removed', async () => {
    await arm()
    await f.sh('mknod layer/sub/x p')
    await f.seen('sub', 'x', Kind.create)
    await f.sh('chmod 600 layer/sub/x')
    await f.seen('sub', 'x', Kind.attributes)
    await f.sh('rm layer/sub/x')
    await f.seen('sub', 'x', Kind.delete)
    expect(f.kinds('sub', 'x') & Kind.directory).toBe(0)
  })

  test('a file replaced by rename is reported by both names', async () => {
    await f.sh('echo 1 > layer/sub/f')
    await arm()
    await f.sh('echo 2 > layer/sub/.f.new; mv layer/sub/.f.new layer/sub/f')
    await f.seen('sub', 'f', Kind.movedTo)
    await f.seen('sub', '.f.new', Kind.create | Kind.movedFrom)
    expect(f.kinds('sub', 'f') & Kind.directory).toBe(0)
  })

  test('content of a file is not reported unless its name was asked for', async () => {
    await f.sh('touch layer/quiet layer/loud')
    await f.add(1, f.path('layer'), scope, { modifyNames: ['loud'] })
    await f.sh('echo 1 > layer/quiet; echo 1 > layer/loud')
    await f.seen('', 'loud', Kind.modify)
    await f.settle('layer')
    expect(f.list().filter((name) => name.includes('quiet'))).toEqual([])
  })

  test('attributes of a directory belong to its name, those of the root to the empty name', async () => {
    await arm()
    await f.sh('chmod 711 layer/sub; chmod 755 layer')
    await f.seen('', 'sub', Kind.attributes | Kind.directory)
    await f.seen('', '', Kind.attributes | Kind.directory)
    await f.settle('layer')
    expect(f.list().filter((name) => name.endsWith('/.') || name === '1:sub/')).toEqual([])
  })

  test('the xattr that makes a directory opaque is an attribute', async () => {
    await arm()
    await f.sh(`python3 -c 'import os; os.setxattr("layer/sub", "${opaque}", b"y")'`)
    await f.seen('', 'sub', Kind.attributes | Kind.directory)
  })

  test('a hard link is a create, and its removal a delete, of that name', async () => {
    await f.sh('touch layer/a')
    await arm()
    await f.sh('ln layer/a layer/sub/b; rm layer/a; chmod 600 layer/sub/b')
    await f.seen('sub', 'b', Kind.create | Kind.attributes)
    await f.seen('', 'a', Kind.delete)
  })

  test.each([
    ['0xff', '\xff\xfe'],
    ['newline and quotes', 'a\nb"\'c'],
    ['255 bytes', 'x'.repeat(255)],
    ['utf-8', '\xc3\xa9'],
    ['deleted', 'x (deleted)'],
  ])('a name and a directory with %s', async (_, name) => {
    await arm()
    const octal = [...name].map((c) => `\\${c.charCodeAt(0).toString(8).padStart(3, '0')}`).join('')
    await f.sh(`n=$'${octal}'; mkdir "layer/sub/$n"; touch "layer/sub/$n/$n"`)
    await f.seen('sub', name, Kind.create | Kind.directory)
    await f.seen(`sub/${name}`, name, Kind.create)
  })

  test('a deep tree made at once loses nothing', async () => {
    await arm()
    const deep = Array.from({ length: 40 }, (_, i) => `d${i}`)
    await f.sh(`mkdir -p layer/${deep.join('/')}; touch layer/${deep.join('/')}/end`)
    await f.seen(deep.join('/'), 'end', Kind.create)
    for (let i = 1; i < deep.length; i++) {
      await f.seen(deep.slice(0, i).join('/'), deep[i]!, Kind.create | Kind.directory)
    }
    await f.sh(`rm layer/${deep.join('/')}/end`)
    await f.seen(deep.join('/'), 'end', Kind.delete)
  })

  test('many trees made by several processes lose nothing', async () => {
    await arm()
    await f.sh(
      'for p in 1 2 3 4; do (for i in {1..25}; do mkdir -p layer/$p/$i/a/b; : > layer/$p/$i/a/b/f; done) & done; wait',
    )
    for (let p = 1; p <= 4; p++) {
      for (let i = 1; i <= 25; i++) await f.seen(`${p}/${i}/a/b`, 'f', Kind.create)
    }
  })

  test('below a renamed directory the paths follow', async () => {
    await f.sh('mkdir -p layer/sub/a/b/c layer/other; touch layer/sub/a/b/c/f')
    await arm()
    // Known by its old path before it is renamed.
    await f.sh('chmod 600 layer/sub/a/b/c/f')
    await f.seen('sub/a/b/c', 'f', Kind.attributes)
    f.clear()
    await f.sh('mv layer/sub/a layer/other/z')
    await f.seen('sub', 'a', Kind.movedFrom | Kind.directory)
    await f.seen('other', 'z', Kind.movedTo | Kind.directory)
    await f.sh('touch layer/other/z/b/c/g; rm layer/other/z/b/c/f')
    await f.seen('other/z/b/c', 'g', Kind.create)
    await f.seen('other/z/b/c', 'f', Kind.delete)
    expect(f.list().filter((name) => name.startsWith('1:sub/a/'))).toEqual([])
    const renames = f.batches.flatMap((batch) => batch.renames)
    expect(renames).toEqual([{ layer: 1, from: 'sub/a', to: 'other/z' }])
  })

  test('directories that change places keep their contents apart', async () => {
    await f.sh('mkdir -p layer/a/in-a layer/b/in-b; touch layer/a/in-a/f layer/b/in-b/f')
    await arm()
    await f.sh('chmod 600 layer/a/in-a/f layer/b/in-b/f')
    await f.seen('b/in-b', 'f', Kind.attributes)
    await f.sh('mv layer/a layer/t; mv layer/b layer/a; mv layer/t layer/b')
    await f.sh('touch layer/b/in-a/new layer/a/in-b/new')
    await f.seen('b/in-a', 'new', Kind.create)
    await f.seen('a/in-b', 'new', Kind.create)
  })

  test('a directory moved out is silent, and moved in again is reported', async () => {
    await f.sh('mkdir -p layer/sub/a/b outside')
    await arm()
    await f.sh('touch layer/sub/a/b/before')
    await f.seen('sub/a/b', 'before', Kind.create)
    await f.sh('mv layer/sub/a outside/a')
    await f.seen('sub', 'a', Kind.movedFrom | Kind.directory)
    await f.settle('layer')
    f.clear()
    await f.sh('touch outside/a/b/away')
    await f.settle('layer')
    expect(f.list()).toEqual([])
    await f.sh('mv outside/a layer/back')
    await f.seen('', 'back', Kind.movedTo | Kind.directory)
    await f.sh('rm layer/back/b/before; touch layer/back/b/home')
    await f.seen('back/b', 'home', Kind.create)
    await f.seen('back/b', 'before', Kind.delete)
  })

  test('a directory that lay outside all the time and moves in is reported from then on', async () => {
    await f.sh('mkdir -p outside/n/m')
    await arm()
    // Known to be outside before it comes in.
    await f.sh('touch outside/n/m/1')
    await f.sh('mv outside/n layer/sub/n; touch layer/sub/n/m/2')
    await f.seen('sub/n/m', '2', Kind.create)
  })

  test('a directory removed and made again is a new one', async () => {
    await f.sh('mkdir layer/sub/d; touch layer/sub/d/old')
    await arm()
    await f.sh('rm -r layer/sub/d; mkdir layer/sub/d; touch layer/sub/d/new')
    await f.seen('sub', 'd', Kind.delete | Kind.create | Kind.directory)
    await f.seen('sub/d', 'new', Kind.create)
  })

  test('layers nested in one another each get the event with their own path', async () => {
    await f.sh('mkdir -p layer/sub/a/b')
    await arm()
    await f.add(2, f.path('layer/sub/a'), scope)
    await f.add(3, f.path('layer/sub'), scope)
    await f.sh('touch layer/sub/a/b/f')
    await f.seen('sub/a/b', 'f', Kind.create, 1)
    await f.seen('b', 'f', Kind.create, 2)
    await f.seen('a/b', 'f', Kind.create, 3)
    await f.watcher.removeLayer(1)
    f.clear()
    await f.sh('mv layer/sub/a/b layer/sub/a/c; touch layer/sub/a/c/g')
    await f.seen('c', 'g', Kind.create, 2)
    await f.seen('a/c', 'g', Kind.create, 3)
    expect(f.changes.filter((change) => change.layer === 1)).toEqual([])
  })

  test('a directory that moves from one layer to another', async () => {
    await f.sh('mkdir -p second layer/sub/a/b')
    await arm()
    await f.add(2, f.path('second'), scope)
    await f.sh('touch layer/sub/a/b/1')
    await f.seen('sub/a/b', '1', Kind.create, 1)
    await f.sh('mv layer/sub/a second/a')
    await f.seen('sub', 'a', Kind.movedFrom | Kind.directory, 1)
    await f.seen('', 'a', Kind.movedTo | Kind.directory, 2)
    f.clear()
    await f.sh('touch second/a/b/2')
    await f.seen('a/b', '2', Kind.create, 2)
    expect(f.changes.filter((change) => change.layer === 1)).toEqual([])
  })

  test('changes elsewhere give no batch', async () => {
    await f.sh('mkdir -p elsewhere/d')
    await arm()
    await f.settle('layer')
    f.clear()
    await f.sh('for i in {1..200}; do : > elsewhere/d/$i; done; rm -r elsewhere')
    await f.settle('layer')
    expect(f.list()).toEqual([])
    // Events of one name may have been merged.
    if (scope === 'filesystem') expect(f.watcher.counters().eventsOutside).toBeGreaterThanOrEqual(200)
  })

  test('a link to a directory is a name, not a directory', async () => {
    await f.sh('mkdir -p outside/d')
    await arm()
    await f.sh('ln -s ../outside layer/link')
    await f.seen('', 'link', Kind.create)
    f.clear()
    await f.sh('touch outside/d/x outside/y')
    await f.settle('layer')
    expect(f.list()).toEqual([])
  })

  test('the removal of the root of a layer is reported once', async () => {
    await f.sh('mkdir -p doomed/d')
    await f.add(7, f.path('doomed'), scope)
    await f.sh('rm -r doomed')
    await f.seen('', '', Kind.layerGone, 7)
    expect(f.changes.filter((change) => change.kind & Kind.layerGone)).toHaveLength(1)
  })

  test('a removed layer reports nothing, and can be added again', async () => {
    await arm()
    await expect(arm()).rejects.toMatchObject({ code: 'EEXIST' })
    await f.watcher.removeLayer(1)
    expect(f.watcher.layerState(1)).toBeNull()
    mkdirSync(f.path('other'))
    await f.add(2, f.path('other'), scope)
    await f.sh('touch layer/sub/unseen')
    await f.settle('other')
    expect(f.list()).toEqual([])
    await arm()
    await f.sh('touch layer/sub/seen')
    await f.seen('sub', 'seen', Kind.create, 1)
  })
})
