// SPDX-License-Identifier: MIT
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { fromText } from '../../../src/bytes.js'
import { defaultConfig, loadConfig, mergeForOverlay } from '../../../src/daemon/config.js'
import { keyLines } from '../../../src/daemon/config-lines.js'
import { parseConfig } from '../../../src/daemon/config-schema.js'
import { LowerwatchError } from '../../../src/errors.js'

const config = (text: string) => parseConfig(text, 'c.toml')
const errorOf = (text: string) => {
  try {
    config(text)
  } catch (error) {
    expect(error).toBeInstanceOf(LowerwatchError)
    expect((error as LowerwatchError).exitCode).toBe(2)
    return (error as LowerwatchError).line
  }
  return null
}

describe('a right file', () => {
  it('is empty: every key has its default', () => {
    expect(config('')).toEqual(defaultConfig())
  })

  it('sets every key', () => {
    const parsed = config(`
overlays = ["/merged", "/srv/größe/"]
all = true
socket = "/run/a.sock"
metrics-socket = "/run/m.sock"
log-level = "debug"
refresh-share = 0.5
reconcile-interval-ms = 100
on-vanish = "archive"
swap = "never"
drop-caches = true
lower-changes = "notify"
nudge = false
nudge-copy-up = true
[overlay."/merged"]
on-vanish = "prune"
swap = "auto"
lower-changes = "manual"
nudge = true
refresh-share = 1
lowerdir = ["/l1", "/l2"]
upperdir = "/u"
data-only = ["/d"]
`)
    expect(parsed).toMatchObject({
      overlays: ['/merged', fromText('/srv/größe')],
      all: true,
      socket: '/run/a.sock',
      metricsSocket: '/run/m.sock',
      logLevel: 'debug',
      refreshShare: 0.5,
      reconcileIntervalMs: 100,
      onVanish: 'archive',
      swap: 'never',
      dropCaches: true,
      lowerChanges: 'notify',
      nudge: false,
      nudgeCopyUp: true,
    })
    expect(mergeForOverlay(parsed, '/merged')).toEqual({
      refreshShare: 1,
      reconcileIntervalMs: 100,
      onVanish: 'prune',
      swap: 'auto',
      dropCaches: true,
      lowerChanges: 'manual',
      nudge: true,
      nudgeCopyUp: true,
      lowerdir: ['/l1', '/l2'],
      upperdir: '/u',
      dataOnly: ['/d'],
    })
    expect(mergeForOverlay(parsed, '/other')).toMatchObject({
      onVanish: 'archive',
      lowerChanges: 'notify',
      lowerdir: null,
    })
  })
})

describe('a wrong file is answered with its line', () => {
  it.each([
    [
      'an unknown key',
      'all = true\n\nrefresh-shar = 1\n',
      'c.toml:3: unknown key "refresh-shar" (did you mean "refresh-share"?)',
    ],
    ['underscores', 'log_level = "info"', 'c.toml:1: unknown key "log_level" (did you mean "log-level"?)'],
    [
      'an unknown key of an overlay, by header',
      'all = true\n[overlay."/m"] # here\nnudge = true\n\non-vanis = "keep"\n',
      'c.toml:5: unknown key "on-vanis" (did you mean "on-vanish"?)',
    ],
    [
      'an unknown key of an overlay, dotted',
      'all = true\noverlay."/m".swapp = "auto"\n',
      'c.toml:2: unknown key "swapp" (did you mean "swap"?)',
    ],
    [
      'an unknown key of an overlay, inline',
      'overlay = { "/m" = { nudge = true, nudg = 1 } }',
      'c.toml:1: unknown key "nudg" (did you mean "nudge"?)',
    ],
    ['a wrong type', 'all = "yes"', 'c.toml:1: all must be true or false, not "yes"'],
    [
      'out of range',
      '\nrefresh-share = 0',
      'c.toml:2: refresh-share must be a number from 0.001 to 1, not 0',
    ],
    [
      'not whole',
      'reconcile-interval-ms = 100.5',
      'c.toml:1: reconcile-interval-ms must be a whole number, not 100.5',
    ],
    [
      'a wrong word',
      'on-vanish = "delete"',
      'c.toml:1: on-vanish must be one of "keep", "archive", "prune", not "delete"',
    ],
    [
      'a mode that is no policy',
      'all = true\nlower-changes = "off"',
      'c.toml:2: lower-changes must be one of "leave", "manual", "notify", "reval", not "off"',
    ],
    [
      'a relative path',
      'overlays = [\n  "/a",\n  "b",\n]',
      'c.toml:3: overlays[1] must be an absolute path, not "b"',
    ],
    ['a relative socket', 'socket = "x.sock"', 'c.toml:1: socket must be an absolute path, not "x.sock"'],
    [
      'an overlay by a relative path',
      '[overlay.merged]\nnudge = true',
      'c.toml:1: overlay."merged" must be named by an absolute path',
    ],
    [
      'a list of overlays',
      '[[overlay]]\nnudge = true',
      'c.toml:1: overlay must be a table, not [{"nudge":true}]',
    ],
    [
      'no lower layer',
      '[overlay."/m"]\nlowerdir = []',
      'c.toml:2: overlay."/m".lowerdir must be a list of at least one absolute path, not []',
    ],
    ['broken TOML', 'all = true\nswap = \n', 'c.toml:2: '],
    ['the first of two mistakes', 'x = 1\nall = 2', 'c.toml:1: unknown key "x" (known: '],
  ])('%s', (_, text, line) => {
    expect(errorOf(text)?.slice(0, line.length)).toBe(line)
  })
})

it('finds keys behind strings that look like keys', () => {
  const lineOf = keyLines(
    [
      'a = """',
      'b = 1',
      '""" # "',
      "c = '''",
      "d = 2'''",
      '"e\\u0021".f = [ # [',
      '  "]", { g = 1,',
      '  h = "#" },',
      ']',
      '[[t]]',
      'k = 1',
      '[[t]]',
      'k = 1',
      '[t.u]',
      'k = 1',
    ].join('\n'),
  )
  expect(lineOf(['a'])).toBe(1)
  expect(lineOf(['c'])).toBe(4)
  expect(lineOf(['e!', 'f'])).toBe(6)
  expect(lineOf(['e!', 'f', 1, 'h'])).toBe(8)
  expect(lineOf(['t', 0, 'k'])).toBe(11)
  expect(lineOf(['t', 1, 'k'])).toBe(13)
  expect(lineOf(['t', 1, 'u', 'k'])).toBe(15)
  expect(lineOf(['t', 1, 'none'])).toBe(12)
})

describe('loadConfig', () => {
  let directory = ''
  afterEach(() => rm(directory, { recursive: true, force: true }))

  it('reads a file, and says what is wrong with one that cannot be read', async () => {
    directory = await mkdtemp(join(tmpdir(), 'lowerwatch-'))
    const file = join(directory, 'a.toml')
    await expect(loadConfig(file)).rejects.toThrow(`${file}: no such file`)
    await writeFile(file, 'all = true')
    expect((await loadConfig(file)).all).toBe(true)
    await writeFile(file, Buffer.from('socket = "/\xff"', 'latin1'))
    await expect(loadConfig(file)).rejects.toThrow(`${file}: not UTF-8`)
    await expect(loadConfig(directory)).rejects.toThrow(`${directory}: EISDIR`)
  })
})
