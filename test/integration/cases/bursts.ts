// SPDX-License-Identifier: MIT
import { execFileSync } from 'node:child_process'
import { statSync } from 'node:fs'
import type { Overlay } from '../fixture/overlay.js'
import { directory, first, holds, is, lists, names, put, replace, touch } from './looks.js'
import { type Case, plain } from './types.js'

const files = Array.from({ length: 2000 }, (_, index) => `d${index % 20}/file${index}`)

/** Git without anybody's configuration. */
function git(repository: Buffer, ...arguments_: string[]): void {
  execFileSync('git', ['-C', repository.toString(), ...arguments_], {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: {
      PATH: process.env.PATH,
      GIT_CONFIG_GLOBAL: '/dev/null',
      GIT_CONFIG_SYSTEM: '/dev/null',
      GIT_AUTHOR_NAME: 'test',
      GIT_AUTHOR_EMAIL: 'test@localhost',
      GIT_COMMITTER_NAME: 'test',
      GIT_COMMITTER_EMAIL: 'test@localhost',
    },
  })
}

/** 120 files that both branches have, 60 of them different; 40 only in one and 40 only in the other; a file that is a directory there. */
function twoBranches(o: Overlay): void {
  const repository = o.low(1)
  git(repository, 'init', '--quiet', '--initial-branch=one')
  for (let index = 0; index < 120; index++) {
    directory(o.low(1, `src/${index % 8}`))
    put(o.low(1, `src/${index % 8}/both${index}`), `one ${index % 2 ? index : 'same'}`)
  }
  directory(o.low(1, 'only/one'))
  for (let index = 0; index < 40; index++) put(o.low(1, `only/one/f${index}`), 'one')
  put(o.low(1, 'turns'), 'file')
  git(repository, 'add', '.')
  git(repository, 'commit', '--quiet', '-m', 'one')
  git(repository, 'checkout', '--quiet', '-b', 'two')
  for (let index = 1; index < 120; index += 2) put(o.low(1, `src/${index % 8}/both${index}`), `two ${index}`)
  git(repository, 'rm', '--quiet', '-r', 'only/one', 'turns')
  directory(o.low(1, 'only/two'), o.low(1, 'turns'))
  for (let index = 0; index < 40; index++) put(o.low(1, `only/two/f${index}`), 'two')
  put(o.low(1, 'turns/inside'), 'inside')
  git(repository, 'add', '.')
  git(repository, 'commit', '--quiet', '-m', 'two')
  git(repository, 'checkout', '--quiet', 'one')
}

/** Every file of the tree, relative, without git's own. */
function tree(at: (path: string) => Buffer, path = ''): string[] {
  return names(at(path))
    .filter((name) => name !== '.git')
    .flatMap((name) => {
      const below = path === '' ? name : `${path}/${name}`
      return statSync(at(below)).isDirectory() ? tree(at, below) : [below]
    })
}

export const burstCases: Case[] = [
  {
    name: '2,000 files replaced in a burst',
    lowers: 1,
    upper: true,
    lowerFs: plain,
    burst: true,
    expect: 'coherent',
    layers: (o) => {
      for (let index = 0; index < 20; index++) directory(o.low(1, `d${index}`))
      for (const file of files) put(o.low(1, file), 'old')
    },
    warm: ({ overlay }) => touch(...files.map((file) => overlay.at(file))),
    change: ({ overlay }) => {
      for (const file of files) replace(overlay.low(1, file), 'new')
    },
    check: ({ overlay }) => {
      for (const file of files) {
        const wrong = holds(overlay.at(file), 'new')
        if (wrong !== null) return wrong
      }
      return null
    },
  },
  {
    name: '2,000 files created after cached ENOENTs',
    lowers: 2,
    upper: false,
    lowerFs: plain,
    burst: true,
    expect: 'coherent',
    layers: (o) => {
      for (let index = 0; index < 20; index++) directory(o.low(2, `d${index}`))
    },
    warm: ({ overlay }) => touch(...files.map((file) => overlay.at(file))),
    change: ({ overlay }) => {
      for (const file of files) put(overlay.low(2, file), 'new')
    },
    check: ({ overlay }) => {
      for (const file of files) {
        const wrong = is(overlay.at(file), 'file')
        if (wrong !== null) return wrong
      }
      return null
    },
  },
  {
    name: 'git checkout of another branch in the lower',
    lowers: 1,
    upper: true,
    lowerFs: plain,
    burst: true,
    expect: 'coherent',
    layers: twoBranches,
    warm: ({ overlay }) =>
      touch(...tree((path) => overlay.at(path)).map((path) => overlay.at(path)), overlay.at('only/two')),
    change: ({ overlay }) => git(overlay.low(1), 'checkout', '--quiet', 'two'),
    check: ({ overlay }) =>
      first(
        ...tree((path) => overlay.low(1, path)).map((path) =>
          holds(
            overlay.at(path),
            path.startsWith('src/') ? expectedSource(path) : path.startsWith('only/') ? 'two' : 'inside',
          ),
        ),
        is(overlay.at('only/one'), 'ENOENT'),
        lists(overlay.at(), ['.git', 'only', 'src', 'turns']),
      ),
  },
]

function expectedSource(path: string): string {
  const index = Number(path.slice(path.lastIndexOf('both') + 4))
  return index % 2 ? `two ${index}` : 'one same'
}
