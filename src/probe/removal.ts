// SPDX-License-Identifier: MIT

/** The mail's question about IS_DEADDIR: what an open descriptor of a removed directory still does. */
import {
  closeSync,
  existsSync,
  fstatSync,
  mkdirSync,
  openSync,
  readSync,
  rmdirSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs'
import { fromText } from '../bytes.js'
import { childCgroup } from './cgroup.js'
import { mountFor } from './namespaces.js'
import { experiments } from './native.js'
import { probePrefix } from './plan.js'
import type { Context, Experiment, Observation } from './types.js'

interface Held {
  directory: number
  /** A name that opened before the directory was removed. */
  name: string
  /** A file that was in it; null where a directory with a file cannot be removed. */
  file: number | null
}

type Call = { id: string; did: string; needsFile?: boolean; make(held: Held): string }

const pollBits = { POLLIN: 1, POLLPRI: 2, POLLOUT: 4, POLLERR: 8, POLLHUP: 16, POLLNVAL: 32 }

const list = (fd: number, rewind: boolean) => {
  const names = experiments.listOpen(fd, rewind)
  return names.length === 0 ? 'empty' : 'names'
}

const calls: Call[] = [
  { id: 'getdents', did: 'getdents', make: ({ directory }) => list(directory, false) },
  {
    id: 'readdir-rewound',
    did: 'lseek to the start, and getdents',
    make: ({ directory }) => list(directory, true),
  },
  {
    id: 'openat',
    did: 'openat of a name that was in it',
    make: ({ directory, name }) => {
      closeSync(experiments.openAt(directory, fromText(name), 0))
      return 'works'
    },
  },
  {
    id: 'mkdirat',
    did: 'mkdirat',
    make: ({ directory }) => {
      experiments.makeDirectoryAt(directory, 'x')
      return 'works'
    },
  },
  {
    id: 'fstat',
    did: 'fstat',
    make: ({ directory }) => `works, ${fstatSync(directory).nlink === 0 ? 'no link left' : 'links left'}`,
  },
  {
    id: 'poll',
    did: 'poll of a file that was in it',
    needsFile: true,
    make: ({ file }) => {
      const bits = experiments.pollNow(file!, pollBits.POLLIN | pollBits.POLLPRI)
      const names = Object.entries(pollBits).filter(([, bit]) => (bits & bit) !== 0)
      return names.map(([name]) => name).join(' ') || 'nothing'
    },
  },
  {
    id: 'read',
    did: 'read of a file that was in it',
    needsFile: true,
    make: ({ file }) => (readSync(file!, Buffer.alloc(64), 0, 64, 0) === 0 ? 'end of file' : 'content'),
  },
]

function removal(fs: string, what: string, file: string, open: (context: Context) => string): Experiment {
  const made = calls.filter((call) => file !== '' || call.needsFile !== true)
  const id = (call: Call) => `${fs}/removed-while-open/${call.id}`
  return {
    group: 'kernfs',
    rows: made.map((call) => ({ id: id(call), did: `${what} is removed while it is open: ${call.did}` })),
    async run(context) {
      const rows = new Map<string, Observation>()
      for (const call of made) {
        const path = open(context)
        const name = file === '' ? 'was-in-it' : file
        if (file === '') writeFileSync(`${path}/${name}`, '')
        const held = {
          name,
          directory: openSync(path, 'r'),
          file: file === '' ? null : openSync(`${path}/${file}`, 'r'),
        }
        try {
          // Half read, so that what is cached in the descriptor counts too.
          if (call.id === 'readdir-rewound') experiments.listOpen(held.directory, false)
          closeSync(experiments.openAt(held.directory, fromText(name), 0))
          // A directory with a file of a user's cannot be removed.
          if (file === '') unlinkSync(`${path}/${name}`)
          rmdirSync(path)
          rows.set(id(call), { seen: answer(() => call.make(held)) })
        } finally {
          closeSync(held.directory)
          if (held.file !== null) closeSync(held.file)
        }
      }
      return rows
    },
  }
}

/** The answer, or the name of the error. */
export function answer(look: () => string): string {
  try {
    return look()
  } catch (error) {
    const { code, errno } = error as NodeJS.ErrnoException
    // Node has no name for this one.
    if (errno === -116) return 'ESTALE'
    if (code === undefined) throw error
    return code
  }
}

export const removals: Experiment[] = [
  removal('cgroup2', 'a cgroup', 'cgroup.events', (context) => childCgroup(context)),
  removal('cgroup1', 'a cgroup', 'cgroup.procs', (context) => {
    const options = ['none', `name=${context.name(probePrefix)}`]
    const path = `${mountFor(context, 'cgroup', options)}/gone`
    // The hierarchy outlives its mounts as long as there is a cgroup in it.
    context.remember(`directory cgroup ${options.join(',')} /gone`)
    mkdirSync(path)
    context.defer(() => {
      if (existsSync(path)) rmdirSync(path)
    })
    return path
  }),
  removal('tmpfs', 'a directory', '', (context) => {
    const path = `${context.base}/${context.name('gone')}`
    mkdirSync(path)
    return path
  }),
]
