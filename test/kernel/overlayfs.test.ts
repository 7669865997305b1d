// SPDX-License-Identifier: MIT

/**
 * The overlayfs series without the daemon. Each row of overlayfs_cases.py must hold when the changing call has
 * returned, in every mode, and not on the stock kernel.
 */
import { copyFile, mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import {
  compile,
  debug,
  type GuestRun,
  guest,
  kernelFor,
  quick,
  sharedDirectory,
  versionsWith,
} from './guest.js'
import { modes, moduleOf, python, run } from './overlayfs.js'
import { caseNames, type Row, rightOnStock, rowsOf } from './rows.js'

const names = caseNames()

describe.each(await versionsWith('overlayfs'))('overlayfs on %s', (version) => {
  let stock: Map<string, Row>
  const patched = new Map<string, GuestRun>()

  beforeAll(async () => {
    stock = rowsOf(await run(version, 'stock', python('overlayfs_cases.py', 'stock'), quick))
    for (const mode of modes)
      patched.set(mode, await run(version, 'patched', python('overlayfs_cases.py', mode), quick))
  })

  describe.each(modes)('lower_changes=%s', (mode) => {
    it.for(names)('%s', (name, { skip }) => {
      const row = rowsOf(patched.get(mode)!).get(name)
      if (row?.result === 'skip') return skip(row.why)
      expect(row, patched.get(mode)?.stderr).toEqual({ result: 'ok', why: '' })
      if (!rightOnStock.has(name)) expect(stock.get(name)?.result, 'on the stock kernel').not.toBe('ok')
    })

    it('says nothing alarming', () => {
      expect(patched.get(mode)?.splats).toEqual([])
    })
  })

  it('works without the series for kernfs, like reval where that tells nothing', async () => {
    const cases = python('overlayfs_cases.py', 'notify', 'cgroup_*')
    const done = await run(version, 'patched', cases, quick, {}, 'overlayfs')
    const rows = rowsOf(done)
    const told = rows.get('cgroup_is_followed_by_its_events')
    expect(told, done.stderr).toMatchObject({ result: 'skip', why: /^kernfs reports nothing here/ })
    expect(rows.get('cgroup_controller_files')).toEqual({ result: 'ok', why: '' })
    expect(done).toMatchObject({ status: 0, splats: [] })
  })

  it('passes its own selftest, which finds nothing to test on stock', async () => {
    const patched = await kernelFor(version, 'patched')
    const selftests = `${patched.directory}/tools/testing/selftests`
    await using shared = await sharedDirectory()
    // As with `make headers`
    await mkdir(join(shared.path, 'linux'))
    await copyFile(
      `${patched.directory}/include/uapi/linux/overlayfs.h`,
      join(shared.path, 'linux/overlayfs.h'),
    )
    const source = `${selftests}/filesystems/overlayfs/lower_changes.c`
    const program = await compile(source, shared.path, ['-I', shared.path, '-I', selftests])
    const good = await run(version, 'patched', [program])
    expect(good.stdout).toMatch(/pass:25 fail:0 xfail:0 xpass:0 skip:0 error:0/)
    expect(good).toMatchObject({ status: 0, splats: [] })
    const stock = await run(version, 'stock', [program])
    expect(stock.stdout).toContain('overlayfs has no lower_changes=')
    expect(stock.stdout).not.toMatch(/^ok \d+ (?!.*# SKIP)/m)
  })

  // Where it is none, this is not a test that is skipped: there is nothing to load.
  if (debug === 'modules')
    it('is loaded, used and unloaded 50 times', async () => {
      const build = await kernelFor(version, 'patched')
      const done = await guest(build, python('overlayfs_module.py', moduleOf(build), 50))
      expect(done.stdout + done.stderr).toContain('50 times loaded')
      expect(done).toMatchObject({ status: 0, splats: [] })
    })
})
