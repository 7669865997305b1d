// SPDX-License-Identifier: MIT
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { native } from '../../src/native.js'
import type { OpenOverlay } from '../../src/overlay/types.js'
import { applyVanish, type VanishPolicy, type VanishResult } from '../../src/refresh/vanish.js'
import {
  ask,
  type LowerKind,
  mountStage,
  open,
  type Stage,
  scratch,
  stage,
  whyNo,
  whyNoRoot,
} from './check-stage.js'
import { run } from './fixture/environment.js'

const logs: string[] = []

async function vanish(
  policy: VanishPolicy,
  overlay: OpenOverlay,
  path: string,
  dryRun = false,
): Promise<VanishResult> {
  logs.length = 0
  const directory = dirname(path) === '.' ? '' : dirname(path)
  return applyVanish(policy, overlay, directory, path.slice(directory ? directory.length + 1 : 0), {
    dryRun,
    log: (message) => logs.push(message),
  })
}

const refresh = (overlay: OpenOverlay) =>
  native.reconfigure(overlay.lane, [{ overlay: overlay.root, readOnly: false }])

/** Every path below, sorted. */
function tree(path: string): string[] {
  return run('find', path, '-mindepth', '1', '-printf', '%P\\n').split('\n').filter(Boolean).sort()
}

describe.skipIf(whyNoRoot !== '')(`on-vanish ${whyNoRoot}`, () => {
  // A group of which every test is skipped has no end at which to remove it.
  const base = whyNoRoot === '' ? scratch() : ''

  /** A lower directory A/B; the user's file and a copied-up directory in it. */
  const ready = async (kind: LowerKind, before: (at: Stage) => void = () => {}) => {
    const at = stage(base, kind)
    mkdirSync(join(at.lower, 'A/B/sub'), { recursive: true })
    before(at)
    mountStage(at)
    writeFileSync(join(at.merged, 'A/B/file'), 'mine')
    writeFileSync(join(at.merged, 'A/B/sub/deep'), 'mine')
    ask(join(at.merged, 'A'), join(at.merged, 'A/B'))
    return { at, overlay: await open(at.merged) }
  }
  const remove = (at: Stage) => {
    for (const name of ['A/B/sub', 'A/B']) rmdirSync(join(at.lower, name))
  }
  const archives = (at: Stage) => {
    const place = `${at.upper}.lowerwatch-archive`
    return existsSync(place) ? readdirSync(place).map((name) => join(place, name)) : []
  }

  for (const kind of ['same', 'tmpfs', 'ext4', 'cgroup2'] as const) {
    describe.skipIf(whyNo(kind) !== '')(`lower ${kind} ${whyNo(kind)}`, () => {
      it('keep: changes nothing', async () => {
        const { at, overlay } = await ready(kind)
        remove(at)
        expect(await vanish('keep', overlay, 'A/B')).toMatchObject({ changed: false })
        await refresh(overlay)
        expect(readFileSync(join(at.merged, 'A/B/file'), 'utf8')).toBe('mine')
      })

      it('prune: gone from overlay and upper, no whiteout, and visible when the lower has it again', async () => {
        const { at, overlay } = await ready(kind)
        remove(at)
        const result = await vanish('prune', overlay, 'A/B')
        expect(result).toMatchObject({ changed: true, reason: '', archivedTo: null })
        expect(result.paths.sort()).toEqual(['A/B', 'A/B/file', 'A/B/sub', 'A/B/sub/deep'])
        for (const path of result.paths) expect(logs.join('\n')).toContain(`: ${path}`)
        await refresh(overlay)
        expect(existsSync(join(at.merged, 'A/B'))).toBe(false)
        expect(readdirSync(join(at.merged, 'A'))).not.toContain('B')
        expect(tree(at.upper)).toEqual(['A'])
        expect(existsSync(`${at.upper}.lowerwatch-archive`)).toBe(false)
        mkdirSync(join(at.lower, 'A/B'))
        await refresh(overlay)
        expect(statSync(join(at.merged, 'A/B')).isDirectory()).toBe(true)
        expect(existsSync(join(at.merged, 'A/B/file'))).toBe(false)
      })

      it('archive: the same, and the copy lies beside the upper, for its owner only', async () => {
        const { at, overlay } = await ready(kind)
        remove(at)
        const result = await vanish('archive', overlay, 'A/B')
        expect(result.changed).toBe(true)
        await refresh(overlay)
        expect(existsSync(join(at.merged, 'A/B'))).toBe(false)
        const kept = join(dirname(at.upper), result.archivedTo!)
        expect(kept).toMatch(/\/upper\.lowerwatch-archive\/\d{8}T\d{6}\.\d{3}Z\/A\/B$/)
        expect(tree(kept)).toEqual(['file', 'sub', 'sub/deep'])
        expect(readFileSync(join(kept, 'sub/deep'), 'utf8')).toBe('mine')
        expect(statSync(`${at.upper}.lowerwatch-archive`).mode & 0o777).toBe(0o700)
        mkdirSync(join(at.lower, 'A/B'))
        await refresh(overlay)
        expect(existsSync(join(at.merged, 'A/B/file'))).toBe(false)
        expect(existsSync(join(at.merged, 'A/B'))).toBe(true)
      })

      it('acts on a directory that was in the upper before the overlay merged it', async () => {
        const { at, overlay } = await ready(kind, ({ upper }) => {
          mkdirSync(join(upper, 'A/B'), { recursive: true })
          writeFileSync(join(upper, 'A/B/before'), '')
        })
        remove(at)
        expect((await vanish('prune', overlay, 'A/B')).paths).toContain('A/B/before')
      })

      it('dry run: says what would go and changes nothing', async () => {
        const { at, overlay } = await ready(kind)
        remove(at)
        const before = tree(at.upper)
        for (const policy of ['archive', 'prune'] as const) {
          const result = await vanish(policy, overlay, 'A/B', true)
          expect(result).toMatchObject({ changed: false, reason: '' })
          expect(result.paths.sort()).toEqual(['A/B', 'A/B/file', 'A/B/sub', 'A/B/sub/deep'])
          expect(logs).toHaveLength(4)
        }
        expect(tree(at.upper)).toEqual(before)
        expect(archives(at)).toEqual([])
      })

      it('leaves alone what the lower still has, or has again', async () => {
        const { at, overlay } = await ready(kind)
        expect((await vanish('prune', overlay, 'A/B')).reason).toContain('has something by that name')
        remove(at)
        mkdirSync(join(at.lower, 'A/B'))
        expect((await vanish('prune', overlay, 'A/B')).reason).toContain('has something by that name')
        expect(existsSync(join(at.upper, 'A/B/file'))).toBe(true)
      })

      it('leaves alone what came from no lower', async () => {
        const { at, overlay } = await ready(kind)
        mkdirSync(join(at.merged, 'A/own'))
        expect((await vanish('prune', overlay, 'A/own')).reason).toContain('no record')
        expect(await vanish('prune', overlay, 'A/none')).toMatchObject({ changed: false, reason: '' })
        expect(existsSync(join(at.upper, 'A/own'))).toBe(true)
      })
    })
  }

  it('leaves alone a directory that was moved in the lower', async () => {
    const { at, overlay } = await ready('tmpfs')
    renameSync(join(at.lower, 'A/B'), join(at.lower, 'A/C'))
    expect((await vanish('prune', overlay, 'A/B')).reason).toContain('still exists')
    expect(existsSync(join(at.upper, 'A/B/file'))).toBe(true)
  })

  it('leaves alone what came from a file system that is no lower any more', async () => {
    const at = stage(base, 'tmpfs')
    mkdirSync(join(at.lower, 'd'))
    mountStage(at)
    writeFileSync(join(at.merged, 'd/file'), '')
    run('umount', at.merged)
    run('umount', at.lower)
    run('mount', '-t', 'tmpfs', 'other', at.lower)
    mountStage(at)
    expect((await vanish('prune', await open(at.merged), 'd')).reason).toContain('from no lower layer')
    expect(existsSync(join(at.upper, 'd/file'))).toBe(true)
  })

  it('finds the right one of two lowers on different file systems', async () => {
    const at = stage(base, 'tmpfs')
    const second = join(at.base, 'second')
    mkdirSync(second)
    run('mount', '-t', 'tmpfs', 'second', second)
    mkdirSync(join(second, 'd'))
    const layers = `lowerdir=${at.lower}:${second},upperdir=${at.upper},workdir=${at.work}`
    run('mount', '-t', 'overlay', 'overlay', '-o', layers, at.merged)
    writeFileSync(join(at.merged, 'd/file'), '')
    const overlay = await open(at.merged)
    mkdirSync(join(at.lower, 'd'))
    rmdirSync(join(second, 'd'))
    expect((await vanish('prune', overlay, 'd')).reason).toContain('has something by that name')
    rmdirSync(join(at.lower, 'd'))
    expect(await vanish('prune', overlay, 'd')).toMatchObject({ changed: true })
  })

  it('follows no link: not in the path, not as the directory, not as the archive, not inside', async () => {
    const { at, overlay } = await ready('tmpfs')
    const outside = join(at.base, 'outside')
    mkdirSync(join(outside, 'B'), { recursive: true })
    writeFileSync(join(outside, 'B/precious'), '')
    remove(at)
    symlinkSync(outside, join(at.upper, 'A/B/link'))
    renameSync(join(at.upper, 'A'), join(at.upper, 'kept'))
    symlinkSync(outside, join(at.upper, 'A'))
    expect(await vanish('prune', overlay, 'A/B')).toMatchObject({ changed: false })
    rmSync(join(at.upper, 'A'))
    renameSync(join(at.upper, 'kept'), join(at.upper, 'A'))
    symlinkSync(outside, `${at.upper}.lowerwatch-archive`)
    expect(await vanish('archive', overlay, 'A/B')).toMatchObject({ changed: false })
    rmSync(`${at.upper}.lowerwatch-archive`)
    expect(await vanish('prune', overlay, 'A/B')).toMatchObject({ changed: true })
    expect(tree(outside)).toEqual(['B', 'B/precious'])
    symlinkSync(outside, join(at.upper, 'A/B'))
    expect(await vanish('prune', overlay, 'A/B')).toMatchObject({ changed: false })
    expect(lstatSync(join(at.upper, 'A/B')).isSymbolicLink()).toBe(true)
  })

  it('uses no archive that others can read or write', async () => {
    const { at, overlay } = await ready('tmpfs')
    remove(at)
    mkdirSync(`${at.upper}.lowerwatch-archive`)
    chmodSync(`${at.upper}.lowerwatch-archive`, 0o755)
    expect((await vanish('archive', overlay, 'A/B')).reason).toContain('not private')
    expect(existsSync(join(at.upper, 'A/B/file'))).toBe(true)
  })

  it('touches nothing where something is mounted, in the upper or through the overlay', async () => {
    for (const place of ['upper', 'merged'] as const) {
      const { at, overlay } = await ready('tmpfs')
      run('mount', '-t', 'tmpfs', 'inside', join(at[place], 'A/B/sub'))
      writeFileSync(join(at[place], 'A/B/sub/precious'), '')
      remove(at)
      expect((await vanish('prune', overlay, 'A/B')).reason).toContain('tmpfs is mounted at')
      expect(existsSync(join(at.upper, 'A/B/file'))).toBe(true)
      run('umount', join(at[place], 'A/B/sub'))
      expect(await vanish('prune', overlay, 'A/B')).toMatchObject({ changed: true })
    }
  })

  it('leaves alone a directory that holds one which shows another lower path', async () => {
    const at = stage(base, 'tmpfs')
    mkdirSync(join(at.lower, 'd'))
    mkdirSync(join(at.lower, 'other'))
    mountStage(at, ',redirect_dir=on')
    renameSync(join(at.merged, 'other'), join(at.merged, 'd/other'))
    rmdirSync(join(at.lower, 'd'))
    const overlay = await open(at.merged)
    expect((await vanish('prune', overlay, 'd')).reason).toContain('cannot be mapped')
    overlay.unmappable = ''
    expect((await vanish('prune', overlay, 'd')).reason).toContain('shows a directory of another path')
    expect(existsSync(join(at.upper, 'd/other'))).toBe(true)
  })
})
