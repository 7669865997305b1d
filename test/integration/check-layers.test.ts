// SPDX-License-Identifier: MIT
import { spawn } from 'node:child_process'
import {
  chmodSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  statSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs'
import { opendir } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { checkOverlay } from '../../src/coherence/check.js'
import { native } from '../../src/native.js'
import {
  ask,
  check,
  found,
  mountLayers,
  mountStage,
  open,
  scratch,
  stage,
  whyNo,
  whyNoRoot,
} from './check-stage.js'
import { run } from './fixture/environment.js'

describe('check of layers', () => {
  const base = scratch()

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
    // Ends between two commands when it is told to, and with the test in any case.
    const script = 'trap exit TERM; while kill -0 "$PPID"; do : > "$1/d/x"; rm "$1/d/x"; done'
    const child = spawn('sh', ['-c', script, 'sh', at.lower], { stdio: ['ignore', 'ignore', 'inherit'] })
    const ended = new Promise((resolve) => child.once('close', resolve))
    let reported: string[] = []
    try {
      for (let round = 0; round < 10 && reported.length === 0; round++) reported = await check(at)
      expect(child.exitCode).toBeNull()
    } finally {
      child.kill()
      await ended
    }
    if (reported.length === 0) return
    // A look at the name leaves it as it was then in the overlay, since nothing refreshes that: a report of it is true.
    writeFileSync(join(at.lower, 'd/x'), '')
    expect(reported).toEqual([expect.stringMatching(/^(negative|replaced) d\/x$/)])
    const number = (path: string) => statSync(path, { throwIfNoEntry: false })?.ino
    expect(number(join(at.merged, 'd/x'))).not.toBe(number(join(at.lower, 'd/x')))
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
})
