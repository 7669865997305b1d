// SPDX-License-Identifier: MIT
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'

const project = fileURLToPath(new URL('../..', import.meta.url))
const directory = mkdtempSync('/tmp/lw-fuzz-')
const binary = join(directory, 'decode_fuzz')

// The sanitizers' run-time libraries come with g++ on Debian, and not everywhere.
const flags = ['-std=gnu++20', '-g', '-O1', '-fsanitize=address,undefined', '-fno-sanitize-recover=all']
const probe = spawnSync('g++', [...flags, '-xc++', '-', '-o', join(directory, 'probe')], {
  input: 'int main() {}',
})
if (probe.status !== 0) console.warn('skipped: fuzzing the event decoders needs g++ with its sanitizers')

afterAll(() => rmSync(directory, { recursive: true }))

describe.skipIf(probe.status !== 0)('event decoders', () => {
  beforeAll(() => {
    const sources = ['test/fuzz/decode_fuzz.cc', 'native/watch/decode.cc']
    const built = spawnSync('g++', [...flags, '-Inative', ...sources, '-o', binary], { cwd: project })
    expect(built.stderr.toString()).toBe('')
  }, 60_000)

  test.each([1, 2])(
    'random and mutated bytes, seed %i',
    (seed) => {
      const run = spawnSync(binary, [String(seed), '30000'])
      expect(run.stderr.toString()).toBe('')
      expect(run.status).toBe(0)
      const counts = /events (\d+) malformed (\d+) ended (\d+)/
        .exec(run.stdout.toString())!
        .slice(1)
        .map(Number)
      // Every way out was taken often.
      for (const count of counts) expect(count).toBeGreaterThan(1000)
    },
    60_000,
  )
})
