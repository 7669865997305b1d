// SPDX-License-Identifier: MIT
import {
  closeSync,
  type Dir,
  mkdirSync,
  opendirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  statSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs'

/** One overlay of the demonstration. */
export interface DemoOverlay {
  lower: string
  merged: string
}

/** A change below an overlay, and what a person sees of it. `tag` keeps the two runs apart. */
export interface Scene {
  title: string
  overlay: 'cgroup' | 'directory'
  prepare(overlay: DemoOverlay, tag: string): void
  change(overlay: DemoOverlay, tag: string): void
  /** What is seen now, in a few words. */
  look(overlay: DemoOverlay, tag: string): string
  right: string
  cleanUp?(overlay: DemoOverlay, tag: string): void
}

/** The answer, or the error's name: what a program gets to see. */
function answer(look: () => string): string {
  try {
    return look()
  } catch (error) {
    const { code, errno } = error as NodeJS.ErrnoException
    // Node.js has no name for this one.
    return errno === -116 ? 'ESTALE' : (code ?? String(error))
  }
}

let held: Dir | null = null

export const scenes: Scene[] = [
  {
    title: 'a cgroup is made whose name was asked for before',
    overlay: 'cgroup',
    prepare: ({ merged }, tag) => void answer(() => String(statSync(`${merged}/job-${tag}`))),
    change: ({ lower }, tag) => mkdirSync(`${lower}/job-${tag}`),
    look: ({ merged }, tag) =>
      answer(() => (statSync(`${merged}/job-${tag}`).isDirectory() ? 'directory' : 'file')),
    right: 'directory',
    cleanUp: ({ lower }, tag) => rmdirSync(`${lower}/job-${tag}`),
  },
  {
    title: 'a cgroup ends that has a file of yours beside it',
    overlay: 'cgroup',
    prepare: ({ lower, merged }, tag) => {
      mkdirSync(`${lower}/done-${tag}`)
      writeFileSync(`${merged}/done-${tag}/notes`, 'my notes')
      readdirSync(`${merged}/done-${tag}`)
    },
    change: ({ lower }, tag) => rmdirSync(`${lower}/done-${tag}`),
    look: ({ merged }, tag) => answer(() => readFileSync(`${merged}/done-${tag}/notes`, 'utf8')),
    right: 'my notes',
  },
  {
    title: 'a file is replaced, as git and editors do it',
    overlay: 'directory',
    prepare: ({ lower, merged }, tag) => {
      writeFileSync(`${lower}/source-${tag}`, 'old text')
      readFileSync(`${merged}/source-${tag}`)
      writeFileSync(`${lower}/.source-${tag}`, 'new text')
    },
    change: ({ lower }, tag) => renameSync(`${lower}/.source-${tag}`, `${lower}/source-${tag}`),
    look: ({ merged }, tag) => answer(() => readFileSync(`${merged}/source-${tag}`, 'utf8')),
    right: 'new text',
  },
  {
    title: 'a file is removed',
    overlay: 'directory',
    prepare: ({ lower, merged }, tag) => {
      writeFileSync(`${lower}/removed-${tag}`, '')
      statSync(`${merged}/removed-${tag}`)
    },
    change: ({ lower }, tag) => unlinkSync(`${lower}/removed-${tag}`),
    look: ({ merged }, tag) =>
      answer(() => (statSync(`${merged}/removed-${tag}`).isFile() ? 'still there' : '')),
    right: 'ENOENT',
  },
  {
    title: 'ls, while another process has the directory open',
    overlay: 'directory',
    prepare: ({ lower, merged }, tag) => {
      mkdirSync(`${lower}/list-${tag}`)
      closeSync(openSync(`${merged}/list-${tag}/a`, 'w'))
      held = opendirSync(`${merged}/list-${tag}`)
      held.readSync()
    },
    change: ({ lower }, tag) => writeFileSync(`${lower}/list-${tag}/b`, ''),
    look: ({ merged }, tag) => answer(() => readdirSync(`${merged}/list-${tag}`).sort().join(' ')),
    right: 'a b',
    cleanUp: () => {
      held?.closeSync()
      held = null
    },
  },
]
