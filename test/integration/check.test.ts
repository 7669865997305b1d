// SPDX-License-Identifier: MIT
import {
  chmodSync,
  chownSync,
  closeSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs'
import { opendir } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { checkOverlay } from '../../src/coherence/check.js'
import { native } from '../../src/native.js'
import { ask, check, mountStage, open, type Stage, scratch, stage, whyNo, whyNoRoot } from './check-stage.js'
import { run } from './fixture/environment.js'

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
})
