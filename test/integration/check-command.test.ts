// SPDX-License-Identifier: MIT
import { spawnSync } from 'node:child_process'
import { closeSync, existsSync, mkdirSync, openSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { ask, mountStage, scratch, stage } from './check-stage.js'

describe('the command check', () => {
  const base = scratch()

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
