// SPDX-License-Identifier: MIT
import { spawn, spawnSync } from 'node:child_process'
import {
  chmodSync,
  chownSync,
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  statSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs'
import { opendir } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { fromText } from '../../src/bytes.js'
import { type CheckReport, checkOverlay } from '../../src/coherence/check.js'
import { native } from '../../src/native.js'
import {
  ask,
  mountLayers,
  mountStage,
  open,
  type Stage,
  scratch,
  stage,
  whyNo,
  whyNoRoot,
} from './check-stage.js'
import { run } from './fixture/environment.js'

const found = ({ entries }: CheckReport) => entries.map(({ kind, path }) => `${kind} ${path}`).sort()

async function check(at: Stage, paths: string[] | null = null): Promise<string[]> {
  return found(await checkOverlay(await open(at.merged), { paths: paths?.map(fromText) ?? null }))
}

describe('check on a stock kernel', () => {
  const base = scratch()

  for (const kind of ['same', 'tmpfs', 'ext4'] as const) {
    describe.skipIf(whyNo(kind) !== '')(`lower ${kind} ${whyNo(kind)}`, () => {
      const ready = (fill: (lower: string) => void): Stage => {
        const at = stage(base, kind)
        fill(at.lower)
        mountStage(at)
        return at
      }

      it('says nothing on a coherent mount, with copied-up, merged, upper-only and whited-out names', async () => {
        const at = ready((lower) => {
          mkdirSync(join(lower, 'd/e'), { recursive: true })
          for (const name of ['a', 'b', 'd/f', 'd/g', 'd/e/h']) writeFileSync(join(lower, name), name)
          symlinkSync('a', join(lower, 'link'))
        })
        writeFileSync(join(at.merged, 'd/f'), 'copied up')
        writeFileSync(join(at.merged, 'd/new'), 'new')
        mkdirSync(join(at.merged, 'only/upper'), { recursive: true })
        unlinkSync(join(at.merged, 'b'))
        ask(
          ...['', 'a', 'b', 'c', 'd', 'd/e', 'd/e/h', 'd/g', 'link', 'only/upper'].map((name) =>
            join(at.merged, name),
          ),
        )
        const report = await checkOverlay(await open(at.merged), { paths: null })
        expect(report.entries).toEqual([])
        expect(report.namesExamined).toBeGreaterThan(8)
        expect(report.directoriesExamined).toBe(5)
      })

      it('negative: a file created after a cached ENOENT', async () => {
        const at = ready((lower) => mkdirSync(join(lower, 'd')))
        ask(join(at.merged, 'd/late'))
        writeFileSync(join(at.lower, 'd/late'), '')
        expect(await check(at)).toEqual(['negative d/late'])
      })

      it('ghost: a file and a directory removed below, found by path, by a held listing, by a descriptor', async () => {
        const at = ready((lower) => {
          mkdirSync(join(lower, 'd/gone'), { recursive: true })
          writeFileSync(join(lower, 'd/file'), 'x')
        })
        const held = openSync(join(at.merged, 'd/file'), 'r')
        try {
          ask(join(at.merged, 'd/gone'))
          rmdirSync(join(at.lower, 'd/gone'))
          unlinkSync(join(at.lower, 'd/file'))
          expect(await check(at)).toEqual(['ghost d/file'])
          expect(await check(at, ['d/gone'])).toEqual(['ghost d/gone'])
        } finally {
          closeSync(held)
        }
      })

      it('replaced: a file by rename, of the same size; a file by a directory', async () => {
        const at = ready((lower) => {
          writeFileSync(join(lower, 'file'), 'old')
          writeFileSync(join(lower, 'turns'), 'old')
        })
        ask(join(at.merged, 'file'))
        ask(join(at.merged, 'turns'))
        writeFileSync(join(at.lower, '.new'), 'new')
        renameSync(join(at.lower, '.new'), join(at.lower, 'file'))
        unlinkSync(join(at.lower, 'turns'))
        mkdirSync(join(at.lower, 'turns'))
        expect(readFileSync(join(at.merged, 'file'), 'utf8')).toBe('old')
        expect(await check(at)).toEqual(['replaced file', 'replaced turns'])
      })

      it.skipIf(whyNoRoot !== '')(
        'replaced: the lower part of a merged directory, although it is empty and lists the same',
        async () => {
          const at = ready((lower) => mkdirSync(join(lower, 'd')))
          mkdirSync(join(at.merged, 'd/mine'))
          ask(join(at.merged, 'd'))
          renameSync(join(at.lower, 'd'), join(at.lower, 'moved'))
          mkdirSync(join(at.lower, 'd'))
          expect(await check(at, ['d'])).toEqual(['replaced d'])
        },
      )

      it('replaced: a merged directory whose lower is removed while the upper has a file in it', async () => {
        const at = ready((lower) => mkdirSync(join(lower, 'd')))
        writeFileSync(join(at.merged, 'd/mine'), '')
        ask(join(at.merged, 'd'))
        rmdirSync(join(at.lower, 'd'))
        expect(readdirSync(join(at.merged, 'd'))).toEqual([])
        expect(await check(at)).toEqual(['replaced d'])
      })

      it('unmerged: a directory of the upper gains a lower one', async () => {
        const at = ready(() => {})
        mkdirSync(join(at.merged, 'd'))
        mkdirSync(join(at.lower, 'd'))
        // Nothing shows it yet but file handles, which overlayfs does not have in a user namespace.
        if (whyNoRoot === '') expect(await check(at)).toEqual(['unmerged d'])
        writeFileSync(join(at.lower, 'd/file'), '')
        expect(await check(at)).toEqual(['unmerged d'])
      })

      it('listing: a directory that is read and held', async () => {
        const at = ready((lower) => {
          mkdirSync(join(lower, 'd'))
          writeFileSync(join(lower, 'd/one'), '')
          writeFileSync(join(lower, 'd/two'), '')
        })
        writeFileSync(join(at.merged, 'd/mine'), '')
        const held = await opendir(join(at.merged, 'd'))
        await held.read()
        writeFileSync(join(at.lower, 'd/three'), '')
        expect(await check(at)).toEqual(['listing d'])
        unlinkSync(join(at.lower, 'd/three'))
        expect(await check(at)).toEqual([])
        unlinkSync(join(at.lower, 'd/one'))
        expect(await check(at)).toEqual(['listing d'])
        await held.close()
        expect(await check(at)).toEqual([])
      })

      it.skipIf(whyNoRoot !== '')(
        'attributes: mode and owner as permission checks use them, read, write and search',
        async () => {
          const at = ready((lower) => {
            for (const name of ['read', 'write', 'own', 'same'])
              writeFileSync(join(lower, name), '', { mode: 0o600 })
            mkdirSync(join(lower, 'dir'), { mode: 0o700 })
          })
          ask(...['read', 'write', 'own', 'same', 'dir'].map((name) => join(at.merged, name)))
          chmodSync(join(at.lower, 'read'), 0o644)
          chmodSync(join(at.lower, 'write'), 0o200 + 0o400 + 0o022)
          chownSync(join(at.lower, 'own'), 12, 34)
          chmodSync(join(at.lower, 'dir'), 0o711)
          const entries = await check(at)
          expect(entries).toEqual(['attributes dir', 'attributes own', 'attributes read', 'attributes write'])
        },
      )

      it('gives no answer for the copied-up file whose origin changed: its data are the upper’s', async () => {
        const at = ready((lower) => writeFileSync(join(lower, 'file'), 'old'))
        writeFileSync(join(at.merged, 'file'), 'mine')
        writeFileSync(join(at.lower, '.new'), 'new')
        renameSync(join(at.lower, '.new'), join(at.lower, 'file'))
        expect(await check(at)).toEqual([])
      })

      it.skipIf(whyNoRoot !== '')(
        'a copied-up file that was renamed below: its other name shows the copy, or it cannot be reached',
        async () => {
          const at = ready((lower) => writeFileSync(join(lower, 'old'), 'lower'))
          const overlay = await open(at.merged)
          writeFileSync(join(at.merged, 'old'), 'upper')
          renameSync(join(at.lower, 'old'), join(at.lower, 'new'))
          expect(readFileSync(join(at.merged, 'new'), 'utf8')).toBe('upper')
          expect(await check(at)).toEqual(['replaced new'])
          await native.reconfigure(overlay.lane, [{ overlay: overlay.root, readOnly: false }])
          expect(readFileSync(join(at.merged, 'new'), 'utf8')).toBe('lower')
          expect(() => readFileSync(join(at.merged, 'old'))).toThrow('-116') // ESTALE has no name in Node
          expect(await check(at, ['old', 'new'])).toEqual(['replaced old'])
        },
      )

      it('does not fill the cache', async () => {
        const at = ready((lower) => {
          for (const name of ['seen', 'unseen']) {
            mkdirSync(join(lower, name))
            for (const file of ['x', 'y']) writeFileSync(join(lower, name, file), '')
          }
        })
        const overlay = await open(at.merged)
        await native.reconfigure(overlay.lane, [{ overlay: overlay.root, readOnly: false }])
        ask(join(at.merged, 'seen/x'))
        const cached = () => [
          ...native.probeCached(overlay.root, '', ['seen', 'unseen', 'absent']),
          ...native.probeCached(overlay.root, 'seen', ['x', 'y']),
        ]
        const before = cached()
        await checkOverlay(overlay, { paths: null })
        await checkOverlay(overlay, { paths: ['unseen/x', 'absent'] })
        expect(cached()).toEqual(before)
        expect(before).toEqual([2, 0, 0, 2, 0])
      })

      it('pins nothing: the overlay and its layers can be unmounted while it runs', async () => {
        const at = ready((lower) => {
          for (let index = 0; index < 200; index++) mkdirSync(join(lower, `d${index}`))
        })
        for (const name of readdirSync(at.merged)) ask(join(at.merged, name))
        const overlay = await open(at.merged)
        const running = checkOverlay(overlay, { paths: null })
        await new Promise((resolve) => setImmediate(resolve))
        run('umount', at.merged)
        if (kind === 'tmpfs') run('umount', at.lower)
        expect((await running).entries).toEqual([])
      })
    })
  }

  it('compares three lower layers without an upper', async () => {
    const at = stage(base, 'tmpfs')
    const layers = ['one', 'two', 'three'].map((name) => join(at.lower, name))
    for (const layer of layers) {
      mkdirSync(join(layer, 'd'), { recursive: true })
      writeFileSync(join(layer, 'file'), '')
      writeFileSync(join(layer, 'd', layer.slice(-3)), '')
    }
    mountLayers(layers, at.merged)
    ask(...['file', 'd', 'late'].map((name) => join(at.merged, name)))
    expect(await check(at)).toEqual([])
    const held = await opendir(join(at.merged, 'd'))
    await held.read()
    unlinkSync(join(layers[0]!, 'file'))
    rmSync(join(layers[1]!, 'd'), { recursive: true })
    writeFileSync(join(layers[2]!, 'late'), '')
    expect(await check(at)).toEqual(['listing d', 'negative late', 'replaced file'])
    await held.close()
  })

  it('finds that the lowest part of a merged directory was replaced by one that lists the same', async () => {
    const at = stage(base, 'tmpfs')
    const layers = ['one', 'two'].map((name) => join(at.lower, name))
    for (const layer of layers) mkdirSync(join(layer, 'd'), { recursive: true })
    writeFileSync(join(layers[1]!, 'd/file'), 'old')
    mountLayers(layers, at.merged)
    const overlay = await open(at.merged)
    ask(join(at.merged, 'd'))
    expect([...native.probeCached(overlay.root, 'd', ['file'])]).toEqual([0])
    renameSync(join(layers[1]!, 'd'), join(layers[1]!, 'moved'))
    mkdirSync(join(layers[1]!, 'd'))
    writeFileSync(join(layers[1]!, 'd/file'), 'new')
    expect(await check(at)).toEqual(['replaced d/file'])
    expect(readFileSync(join(at.merged, 'd/file'), 'utf8')).toBe('old')
  })

  it.skipIf(whyNoRoot !== '')('sees a change of mode of the root, which no refresh cures', async () => {
    const at = stage(base, 'tmpfs')
    const layers = ['one', 'two'].map((name) => join(at.lower, name))
    for (const layer of layers) mkdirSync(layer)
    mountLayers(layers, at.merged)
    expect(await check(at)).toEqual([])
    chmodSync(layers[0]!, 0o700)
    expect(await check(at)).toEqual(['attributes '])
  })

  it.skipIf(whyNoRoot !== '')('finds a metacopy file whose data were replaced', async () => {
    const at = stage(base, 'tmpfs')
    writeFileSync(join(at.lower, 'file'), 'old')
    mountStage(at, ',metacopy=on,redirect_dir=on')
    chmodSync(join(at.merged, 'file'), 0o640)
    expect(await check(at)).toEqual([])
    writeFileSync(join(at.lower, '.new'), 'new')
    renameSync(join(at.lower, '.new'), join(at.lower, 'file'))
    expect(readFileSync(join(at.merged, 'file'), 'utf8')).toBe('old')
    expect(await check(at)).toEqual(['replaced file'])
  })

  it.skipIf(whyNoRoot !== '')(
    'takes a directory that was renamed in the overlay for what it is',
    async () => {
      const at = stage(base, 'tmpfs')
      mkdirSync(join(at.lower, 'd/sub'), { recursive: true })
      writeFileSync(join(at.lower, 'd/file'), '')
      mountStage(at, ',redirect_dir=on')
      renameSync(join(at.merged, 'd'), join(at.merged, 'renamed'))
      ask(...['renamed', 'renamed/file', 'renamed/sub'].map((name) => join(at.merged, name)))
      expect(await check(at)).toEqual([])
    },
  )

  it('reports nothing that merely changes while it looks', async () => {
    const at = stage(base, 'tmpfs')
    mkdirSync(join(at.lower, 'd'))
    mountStage(at)
    mkdirSync(join(at.merged, 'd/mine'))
    ask(join(at.merged, 'd'))
    const script = 'while :; do : > "$1/d/x"; rm "$1/d/x"; done'
    const child = spawn('sh', ['-c', script, 'sh', at.lower], { stdio: ['ignore', 'ignore', 'inherit'] })
    const ended = new Promise((resolve) => child.once('close', resolve))
    try {
      for (let round = 0; round < 10; round++) expect(await check(at)).toEqual([])
      expect(child.exitCode).toBeNull()
    } finally {
      child.kill()
      await ended
    }
  })

  it('keeps names that are not text', async () => {
    const at = stage(base, 'tmpfs')
    mountStage(at)
    const name = Buffer.from('a\xff\n"\\ (deleted)', 'latin1')
    const inside = (directory: string) => Buffer.concat([Buffer.from(`${directory}/`), name])
    try {
      statSync(inside(at.merged))
    } catch {}
    writeFileSync(inside(at.lower), '')
    expect(await check(at)).toEqual([`negative ${name.toString('latin1')}`])
  })
  describe.skipIf(whyNo('cgroup2') !== '')(`lower cgroup2 ${whyNo('cgroup2')}`, () => {
    it('finds what is negative, gone, unreachable and unmerged, and says that it had to look everything up', async () => {
      const at = stage(base, 'cgroup2')
      for (const name of ['gone', 'user', 'stays']) mkdirSync(join(at.lower, name))
      mountStage(at)
      writeFileSync(join(at.merged, 'user/mine'), '')
      mkdirSync(join(at.merged, 'upper'))
      ask(...['gone', 'user', 'stays', 'late', 'stays/cgroup.procs'].map((name) => join(at.merged, name)))
      const report = await checkOverlay(await open(at.merged), { paths: null })
      expect(found(report)).toEqual([])
      expect(report.limits.some((limit) => limit.includes('revalidates'))).toBe(true)
      for (const name of ['gone', 'user']) rmdirSync(join(at.lower, name))
      for (const name of ['late', 'upper']) mkdirSync(join(at.lower, name))
      expect(await check(at, ['gone', 'user', 'late', 'upper'])).toEqual([
        'ghost gone',
        'negative late',
        'replaced user',
        'unmerged upper',
      ])
      expect(await check(at)).toEqual(
        expect.arrayContaining(['negative late', 'replaced user', 'unmerged upper']),
      )
      run('umount', at.merged)
    })
  })

  it('ends with 1 when something is stale, 0 when not, 2 where there is no overlay', () => {
    const at = stage(base, 'tmpfs')
    mountStage(at)
    const script =
      "import('./dist/cli/check.js').then(({ command }) => command(process.argv.slice(1), { json: true }))" +
      '.then((status) => { process.exitCode = status }, (error) => { process.exitCode = error.exitCode })'
    const runCheck = (...args: string[]) =>
      spawnSync(process.execPath, ['-e', script, ...args], { encoding: 'utf8' })
    expect(runCheck(at.merged).status).toBe(0)
    ask(join(at.merged, 'late'))
    writeFileSync(join(at.lower, 'late'), '')
    const stale = runCheck(at.merged, 'late')
    expect(stale.status).toBe(1)
    expect(JSON.parse(stale.stdout)).toMatchObject({
      coherent: false,
      entries: [{ path: 'late', kind: 'negative' }],
    })
    expect(runCheck(at.lower).status).toBe(2)
  })

  it('takes a mount point and paths that are no text, two that differ in nothing else too', () => {
    const at = stage(base, 'tmpfs')
    mountStage(at)
    const bytes = (text: string) => Buffer.from(text, 'latin1')
    const odd = bytes(`${at.base}/m\xff`)
    mkdirSync(odd)
    // Node passes arguments on as UTF-8: the shell makes those that are not.
    const shell = (script: string, ...args: string[]) =>
      spawnSync('sh', ['-c', script, 'sh', ...args], { encoding: 'utf8' })
    expect(shell('mount --bind "$1" "$(printf "$2/m\\377")"', at.merged, at.base).status).toBe(0)
    const command = (name: 'check' | 'holders') => {
      const script =
        'exec "$1" dist/cli/main.js "$2" --json "$(printf "$3/m\\377")" "$(printf "a\\377")" "$(printf "$3/m\\377/a\\376")"'
      const { status, stdout, stderr } = shell(script, process.execPath, name, at.base)
      expect(stderr).toBe('')
      return { status, found: JSON.parse(stdout) }
    }
    for (const name of ['a\xff', 'a\xfe', 'a\xfd']) {
      expect(existsSync(bytes(`${at.base}/m\xff/${name}`))).toBe(false)
      writeFileSync(bytes(`${at.lower}/${name}`), '')
    }
    const paths = ['a\xff', 'a\xfe'].map((name) => ({ base64: bytes(name).toString('base64') }))
    const { status, found: report } = command('check')
    expect(status).toBe(1)
    expect(report.entries).toHaveLength(2)
    expect(report.entries.map((entry: { path: unknown }) => entry.path)).toEqual(
      expect.arrayContaining(paths),
    )
    for (const name of ['a\xff', 'a\xfe', 'a\xfd']) rmSync(bytes(`${at.lower}/${name}`))
    const held = ['b\xff', 'a\xff', 'a\xfe'].map((name) => openSync(bytes(`${at.base}/m\xff/${name}`), 'w'))
    const { holders } = command('holders').found
    expect(holders.map((holder: { fd: number; path: unknown }) => [holder.fd, holder.path])).toEqual([
      [held[1], paths[0]],
      [held[2], paths[1]],
    ])
    for (const fd of held) closeSync(fd)
  })
})
