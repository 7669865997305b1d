// SPDX-License-Identifier: MIT
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { expect, it } from 'vitest'
import { makeTree } from '../kernel/fixture.js'

const program = fileURLToPath(new URL('../../../dist/cli/main.js', import.meta.url))
const env = { ...process.env, LOWERWATCH_DEBUG: '' }

/** Runs the program when nobody reads its standard output any more. */
async function runUnread(args: string[]) {
  const child = spawn('sh', ['-c', 'read go; exec "$0" "$@"', process.execPath, program, ...args], { env })
  const errors = child.stderr.setEncoding('utf8').toArray()
  child.stdout.destroy()
  await once(child.stdout, 'close')
  child.stdin.end('\n')
  const [status] = await once(child, 'exit')
  return { status, stderr: (await errors).join('') }
}

it('an output that cannot be written: one line on stderr, exit status 2', () => {
  const full = openSync('/dev/full', 'w')
  const { status, stderr } = spawnSync(process.execPath, [program, 'kernel', 'list'], {
    encoding: 'utf8',
    stdio: ['ignore', full, 'pipe'],
    env,
  })
  closeSync(full)
  expect(stderr).toBe('lowerwatch: cannot write to standard output: ENOSPC: no space left on device, write\n')
  expect(status).toBe(2)
})

it('a reader that went away is no error', async () => {
  expect(await runUnread(['kernel', 'list'])).toEqual({ status: 0, stderr: '' })
})

it('a reader that went away does not make a no a yes', async () => {
  await using tree = await makeTree({})
  expect(await runUnread(['kernel', 'apply', '--tree', tree.root])).toEqual({ status: 1, stderr: '' })
})

it('a directory that a booted kernel has not is refused before a kernel is built', () => {
  const { status, stdout, stderr } = spawnSync(process.execPath, [program, 'kernel', 'boot', '--', 'true'], {
    encoding: 'utf8',
    cwd: '/proc/self',
    timeout: 20_000,
    env: { ...env, XDG_CACHE_HOME: '/proc/none' },
  })
  expect(stderr).toMatch(
    /^lowerwatch: a booted kernel has a file system of its own on \/proc\/\d+: run this in another directory\n$/,
  )
  expect([status, stdout]).toEqual([2, ''])
})
