// SPDX-License-Identifier: MIT
import {
  type Dir,
  existsSync,
  mkdirSync,
  opendirSync,
  readdirSync,
  renameSync,
  rmdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Cached, type Handle, native } from '../../../src/native.js'
import { cannotMount, directories, lane, mount, mountLines, onMounts, scratch, tree } from './kernel.js'

onMounts('what an overlay has cached', () => {
  const base = scratch()
  const on = lane()
  const lower = join(base, 'l')
  const merged = join(base, 'm')
  let overlay: Handle
  let layers: Handle[]

  beforeAll(async () => {
    const [l, u, w, m] = directories(base, 'l', 'u', 'w', 'm')
    directories(base, 'l/d')
    mount('-t', 'overlay', 'o', '-o', `lowerdir=${l},upperdir=${u},workdir=${w}`, m!)
    overlay = await tree(on, m!)
    layers = [await tree(on, u!), await tree(on, l!)]
  })

  const examine = (directory: string, names: string[]) =>
    native
      .examine(on, overlay, layers, [{ directory, names }], { revalidates: false })
      .then((facts) => facts[0]!)

  it('is told in three states, and looking fills nothing', () => {
    writeFileSync(join(lower, 'd/there'), '')
    statSync(join(merged, 'd'))
    const names = ['there', 'missing', 'untouched']
    expect([...native.probeCached(overlay, 'd', names)]).toEqual([0, 0, 0])
    statSync(join(merged, 'd/there'))
    expect(existsSync(join(merged, 'd/missing'))).toBe(false)
    for (let round = 0; round < 2; round++) {
      expect([...native.probeCached(overlay, 'd', names)]).toEqual([
        Cached.positive,
        Cached.negative,
        Cached.none,
      ])
    }
  })

  it('answers for names below a directory that is not cached, or cached as missing', async () => {
    directories(base, 'l/cold')
    expect(native.probeCached(overlay, 'cold', ['x'])[0]).toBe(Cached.none)
    expect(await examine('cold', ['x'])).toEqual({ cached: Cached.none, names: [] })
    expect(existsSync(join(merged, 'nodir'))).toBe(false)
    expect(native.probeCached(overlay, 'nodir', ['x'])[0]).toBe(Cached.negative)
    expect(await examine('nodir', ['x'])).toEqual({ cached: Cached.negative, names: [] })
  })

  it('examines a stale negative: cached as missing, and there in the lower', async () => {
    expect(existsSync(join(merged, 'd/late'))).toBe(false)
    writeFileSync(join(lower, 'd/late'), 'late')
    const facts = await examine('d', ['never-asked', 'late'])
    expect(facts).toEqual({
      cached: Cached.positive,
      names: [
        {
          index: 1,
          cached: Cached.negative,
          live: null,
          layers: [null, expect.objectContaining({ sizeBytes: 4n })],
        },
      ],
    })
  })

  it('examines a replaced file: the old inode is live, the new one is below', async () => {
    writeFileSync(join(lower, 'd/config'), 'old')
    statSync(join(merged, 'd/config'))
    writeFileSync(join(lower, 'd/config.new'), 'newer')
    renameSync(join(lower, 'd/config.new'), join(lower, 'd/config'))
    const { names } = await examine('d', ['config'])
    expect(names[0]).toMatchObject({
      cached: Cached.positive,
      live: { sizeBytes: 3n },
      layers: [null, { sizeBytes: 5n }],
    })
    expect(names[0]?.live?.ino).not.toBe(names[0]?.layers[1]?.ino)
  })

  it('examines a ghost: live, and in no layer', async () => {
    writeFileSync(join(lower, 'd/ghost'), '')
    statSync(join(merged, 'd/ghost'))
    rmSync(join(lower, 'd/ghost'))
    expect((await examine('d', ['ghost'])).names).toMatchObject([
      { cached: Cached.positive, live: {}, layers: [null, null] },
    ])
  })

  it('examines a directory itself by the empty name', async () => {
    statSync(join(merged, 'd'))
    const ino = (path: string) => statSync(join(base, path), { bigint: true }).ino
    expect((await examine('d', [''])).names).toMatchObject([
      { live: { ino: ino('m/d') }, layers: [null, { ino: ino('l/d') }] },
    ])
    expect((await examine('', [''])).names).toMatchObject([
      { live: { mode: 0o040755 }, layers: [{ ino: ino('u') }, { ino: ino('l') }] },
    ])
  })

  it('answers several requests in order, with hard names', async () => {
    writeFileSync(Buffer.from(`${lower}/d/\n\xff`, 'latin1'), '')
    statSync(Buffer.from(`${merged}/d/\n\xff`, 'latin1'))
    const requests = [
      { directory: 'd', names: ['\n\xff'] },
      { directory: '', names: ['d', 'nodir'] },
    ]
    const facts = await native.examine(on, overlay, layers, requests, { revalidates: false })
    expect(facts.map((f) => f.names.map((n) => [n.index, n.cached]))).toEqual([
      [[0, 2]],
      [
        [0, 2],
        [1, 1],
      ],
    ])
    await expect(examine('d', ['../d'])).rejects.toMatchObject({ code: 'EINVAL' })
  })

  describe('a listing that a holder keeps', () => {
    it('is stale for everybody until it is nudged, and the nudge leaves no trace', async () => {
      directories(base, 'l/list', 'u/list')
      writeFileSync(join(lower, 'list/old'), '')
      const read: Dir = opendirSync(join(merged, 'list'))
      expect(read.readSync()?.name).toBe('old')
      writeFileSync(join(lower, 'list/new'), '')
      expect(readdirSync(join(merged, 'list'))).toEqual(['old'])
      expect([...(await native.listingHas(on, overlay, 'list', ['new', 'old', 'none', 'old']))]).toEqual([
        0, 1, 0, 1,
      ])
      const before = statSync(join(merged, 'list'), { bigint: true }).mtimeNs
      await native.nudge(on, overlay, 'list')
      expect([...(await native.listingHas(on, overlay, 'list', ['new', 'old', 'none', 'old']))]).toEqual([
        1, 1, 0, 1,
      ])
      expect(readdirSync(join(merged, 'list')).sort()).toEqual(['new', 'old'])
      expect(statSync(join(merged, 'list'), { bigint: true }).mtimeNs).toBe(before)
      // What lies in the upper afterwards: nothing, and no whiteout.
      expect(readdirSync(join(base, 'u/list'))).toEqual([])
      read.closeSync()
    })

    it('cannot be nudged in a read-only overlay', async () => {
      const [other, point] = directories(base, 'l2', 'ro')
      mount('-t', 'overlay', 'o', '-o', `lowerdir=${lower}:${other}`, point!)
      const readOnly = await tree(on, point!)
      await expect(native.nudge(on, readOnly, '')).rejects.toMatchObject({ code: 'EROFS' })
      readOnly.close()
    })
  })
})

const cgroup2 = mountLines()
  .find((line) => / - cgroup2 /.test(line))
  ?.split(' ')[4]

describe.skipIf(cannotMount !== '' || cgroup2 === undefined)(
  `what an overlay has cached over cgroup2${cgroup2 === undefined ? ' (skipped: not mounted)' : ''}`,
  () => {
    const base = scratch()
    const on = lane()
    const group = join(cgroup2 ?? '', `lowerwatch-test-${process.pid}`)
    let overlay: Handle
    let layers: Handle[]

    beforeAll(async () => {
      mkdirSync(group)
      const [u, w, m] = directories(base, 'u', 'w', 'm')
      mount('-t', 'overlay', 'o', '-o', `lowerdir=${group},upperdir=${u},workdir=${w}`, m!)
      overlay = await tree(on, m!)
      layers = [await tree(on, u!), await tree(on, group)]
    })
    afterAll(() => {
      for (const name of ['a', 'b', 'c/d', 'c'])
        if (existsSync(join(group, name))) rmdirSync(join(group, name))
      for (const handle of [overlay, ...layers]) handle.close()
      rmdirSync(group)
    })

    const examine = (directory: string, names: string[]) =>
      native
        .examine(on, overlay, layers, [{ directory, names }], { revalidates: true })
        .then((facts) => facts[0]!)

    it('cannot be told by a probe alone where kernfs revalidates, and is found by looking', async () => {
      mkdirSync(join(group, 'a'))
      statSync(join(base, 'm/a'))
      expect(native.probeCached(overlay, '', ['a'])[0]).toBe(Cached.none)
      expect((await examine('', ['a'])).names).toMatchObject([
        { cached: Cached.positive, layers: [null, { nlink: 2 }] },
      ])
    })

    it('a negative that became stale', async () => {
      expect(existsSync(join(base, 'm/b'))).toBe(false)
      mkdirSync(join(group, 'b'))
      expect((await examine('', ['b'])).names).toMatchObject([
        { cached: Cached.negative, live: null, layers: [null, { nlink: 2 }] },
      ])
    })

    it('a merged directory whose lower was removed answers ESTALE', async () => {
      mkdirSync(join(group, 'c'))
      mkdirSync(join(base, 'm/c/d'))
      rmdirSync(join(group, 'c'))
      expect(() => statSync(join(base, 'm/c'))).toThrow(expect.objectContaining({ errno: -116 }))
      expect((await examine('', ['c'])).names).toMatchObject([
        { cached: Cached.stale, live: null, layers: [{ nlink: 3 }, null] },
      ])
      expect(await examine('c', ['d'])).toEqual({ cached: Cached.stale, names: [] })
    })

    it('a name that is nowhere is not reported', async () => {
      expect((await examine('', ['nowhere-at-all'])).names).toEqual([])
    })
  },
)
