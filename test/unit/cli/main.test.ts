// SPDX-License-Identifier: MIT
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'

const program = fileURLToPath(new URL('../../../dist/cli/main.js', import.meta.url))
const { version } = JSON.parse(readFileSync(new URL('../../../package.json', import.meta.url), 'utf8'))

function run(args: string[], environment: Record<string, string> = {}) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [program, ...args], {
    encoding: 'utf8',
    // No command may begin to build a kernel: there is no cache.
    env: { ...process.env, LOWERWATCH_DEBUG: '', XDG_CACHE_HOME: '/dev/null', ...environment },
  })
  return { status, stdout, stderr }
}

describe('the command line', () => {
  it.each([
    ['no command', [], /^Usage: lowerwatch/],
    ['an unknown command', ['chek'], /^lowerwatch: unknown command 'chek' \(Did you mean check\?\)\n$/],
    [
      'an unknown option',
      ['status', '--jsn'],
      /^lowerwatch: unknown option '--jsn' \(Did you mean --json\?\)\n$/,
    ],
    ['a missing argument', ['check'], /^lowerwatch: missing required argument 'mountpoint'\n$/],
    ['too many arguments', ['status', 'x'], /^lowerwatch: too many arguments for 'status'/],
    ['a path that does not exist', ['check', '/none'], /^lowerwatch: \/none: no such path\n$/],
    [
      'a path that is no overlay',
      ['check', '/proc'],
      /^lowerwatch: \/proc is not an overlay: proc is mounted there\n$/,
    ],
    [
      'an unknown strategy',
      ['refresh', '/proc', '--strategy', 'x'],
      /^lowerwatch: unknown strategy x: one of /,
    ],
    [
      'nobody there',
      ['status', '--socket', '/none/x.sock'],
      /^lowerwatch: no daemon answers on \/none\/x.sock: there is no such socket: /,
    ],
    [
      'a configuration that does not exist',
      ['run', '--all', '--config', '/none.toml'],
      /^lowerwatch: \/none.toml: no such file\n$/,
    ],
    [
      'a size that is none',
      ['kernel', 'boot', '--memory', 'bogus', '--', 'true'],
      /^lowerwatch: option '--memory <size>' argument 'bogus' is invalid. a size is like 512M or 2G\n$/,
    ],
    [
      'a boot of a kernel that is to be patched and stock',
      ['kernel', 'boot', '--patched', '--stock', '--', 'true'],
      /^lowerwatch: option '--stock' cannot be used with option '--patched'\n$/,
    ],
    [
      'a build of one, in the other order',
      ['kernel', 'build', '--stock', '--patched'],
      /^lowerwatch: option '--stock' cannot be used with option '--patched'\n$/,
    ],
  ])('%s: one line on stderr, exit status 2', (_, args, message) => {
    const { status, stdout, stderr } = run(args)
    expect(stderr).toMatch(message)
    expect([status, stdout]).toEqual([2, ''])
  })

  it('help and version end with 0', () => {
    expect(run(['--version'])).toEqual({ status: 0, stdout: `${version}\n`, stderr: '' })
    const { status, stdout } = run(['--help'])
    expect(status).toBe(0)
    for (const command of ['run', 'status', 'check', 'refresh', 'holders', 'watch', 'probe', 'demo']) {
      expect(stdout).toMatch(new RegExp(`^  ${command} `, 'm'))
    }
  })

  it('a stack is printed only when it is asked for', () => {
    expect(run(['check', '/none']).stderr).not.toMatch(/ at /)
    expect(run(['check', '/none'], { LOWERWATCH_DEBUG: '1' }).stderr).toMatch(
      /LowerwatchError[\s\S]*\n {4}at .*\ncaused by: Error: open_tree/,
    )
  })
})
