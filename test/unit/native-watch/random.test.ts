// SPDX-License-Identifier: MIT
import { mkdirSync, readdirSync } from 'node:fs'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { Fixture, Kind, scopesHere } from './fixture.js'

describe.each(scopesHere())('scope %s', (scope) => {
  let f: Fixture
  beforeEach(() => {
    f = new Fixture()
    mkdirSync(f.path('layer'))
  })
  afterEach(() => f.close())

  test.each([1, 2, 3])(
    'random operations of three processes (seed %i): every directory is watched where it is',
    async (seed) => {
      await f.add(1, f.path('layer'), scope)
      await f.sh(`${[0, 1, 2].map((i) => `(${randomScript(seed * 100 + i, 150)}) &`).join('\n')}\nwait`)
      const directories = tree(f.path('layer'), '')
      f.clear()
      await f.sh(directories.map((directory) => `: > 'layer/${directory}/probe'`).join('\n'))
      for (const directory of directories) await f.seen(directory, 'probe', Kind.create)
      if (scope === 'filesystem') return
      // Nothing is watched twice or kept that is gone, once the walk has looked at the last position.
      for (let i = 0; i < 20 && f.watcher.layerState(1)?.directories !== directories.length + 1; i++) {
        await f.settle('layer')
      }
      expect(f.watcher.layerState(1)?.directories).toBe(directories.length + 1)
    },
  )
})

function tree(top: string, directory: string): string[] {
  const found: string[] = []
  for (const entry of readdirSync(`${top}/${directory}`, { withFileTypes: true })) {
    const path = directory === '' ? entry.name : `${directory}/${entry.name}`
    if (entry.isDirectory()) found.push(path, ...tree(top, path))
  }
  return found
}

/** Operations on a few names, so that they meet; the same for the same seed. */
function randomScript(seed: number, operations: number): string {
  let state = seed
  const next = (bound: number) => {
    state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff
    return (state >> 8) % bound
  }
  const path = () => `layer/${Array.from({ length: 1 + next(3) }, () => 'abc'[next(3)]).join('/')}`
  const lines = []
  for (let i = 0; i < operations; i++) {
    switch (next(5)) {
      case 0:
        lines.push(`mkdir -p ${path()} 2>/dev/null ||:`)
        break
      case 1:
        lines.push(`mv -T ${path()} ${path()} 2>/dev/null ||:`)
        break
      case 2:
        lines.push(`rm -rf ${path()} 2>/dev/null ||:`)
        break
      case 3:
        lines.push(
          `mv -T ${path()} out${next(2)} 2>/dev/null || mv -T out${next(2)} ${path()} 2>/dev/null ||:`,
        )
        break
      default:
        lines.push(`{ : > ${path()}/f; } 2>/dev/null ||:`)
    }
  }
  return lines.join('\n')
}
