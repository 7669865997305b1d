// SPDX-License-Identifier: MIT

/** The kinds of staleness: a change of the lower, and what the overlay answers after it. */
import {
  chmodSync,
  closeSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  statSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs'
import { native } from '../../native.js'
import { experiments } from '../native.js'
import { answer } from '../removal.js'
import { type Context, Skip } from '../types.js'
import type { OverlayWish, ProbeOverlay } from './fixture.js'

export interface Kind {
  id: string
  did: string
  wish: OverlayWish
  /** What is in the overlay's caches before the change. */
  warm(overlay: ProbeOverlay, context: Context): void | Promise<void>
  change(overlay: ProbeOverlay): void
  look(overlay: ProbeOverlay, context: Context): string | Promise<string>
  /** A remount does not cure it. */
  pinned?: boolean
}

const type = (path: string) => answer(() => (statSync(path).isDirectory() ? 'directory' : 'file'))
const names = (path: string) => answer(() => readdirSync(path).sort().join(' ') || 'empty')
const text = (path: string) => answer(() => readFileSync(path, 'latin1'))

export const kinds: Kind[] = [
  {
    id: 'negative',
    did: 'a file is made whose name was asked for before: stat',
    wish: {},
    warm: ({ merged }) => void type(`${merged}/new`),
    change: ({ lower }) => writeFileSync(`${lower}/new`, ''),
    look: ({ merged }) => type(`${merged}/new`),
  },
  {
    id: 'negative-cgroup',
    did: 'a cgroup is made whose name was asked for before: listing and stat',
    wish: { lower: 'cgroup2' },
    warm: ({ merged }) => void type(`${merged}/new`),
    change: ({ lower }) => mkdirSync(`${lower}/new`),
    look: ({ merged }) =>
      `${readdirSync(merged).includes('new') ? 'listed' : 'not listed'}, ${type(`${merged}/new`)}`,
  },
  {
    id: 'ghost',
    did: 'a file is removed: stat',
    wish: { prepare: (lower) => writeFileSync(`${lower}/gone`, '') },
    warm: ({ merged }) => void type(`${merged}/gone`),
    change: ({ lower }) => unlinkSync(`${lower}/gone`),
    look: ({ merged }) => type(`${merged}/gone`),
  },
  {
    id: 'replaced',
    did: 'a file is replaced by rename: content',
    wish: {
      prepare: (lower) => {
        writeFileSync(`${lower}/file`, 'old')
        writeFileSync(`${lower}/.file`, 'new')
      },
    },
    warm: ({ merged }) => void text(`${merged}/file`),
    change: ({ lower }) => renameSync(`${lower}/.file`, `${lower}/file`),
    look: ({ merged }) => text(`${merged}/file`),
  },
  {
    id: 'unmerged',
    did: 'a directory of the upper alone gains a lower: listing',
    wish: {
      prepare: (_, upper) => {
        mkdirSync(`${upper}/dir`)
        writeFileSync(`${upper}/dir/mine`, '')
      },
    },
    warm: ({ merged }) => void names(`${merged}/dir`),
    change: ({ lower }) => {
      mkdirSync(`${lower}/dir`)
      writeFileSync(`${lower}/dir/theirs`, '')
    },
    look: ({ merged }) => names(`${merged}/dir`),
  },
  {
    id: 'attributes',
    did: 'a directory is made readable for all: permission check of another user',
    wish: {
      prepare: (lower) => {
        mkdirSync(`${lower}/dir`)
        chmodSync(`${lower}/dir`, 0o700)
      },
    },
    warm: async (overlay, context) => void (await mayRead(overlay, context)),
    change: ({ lower }) => chmodSync(`${lower}/dir`, 0o755),
    look: mayRead,
  },
  {
    id: 'vanished-cgroup',
    did: 'a cgroup goes that has a file of the upper beside it: content of that file',
    wish: { lower: 'cgroup2', prepare: (lower) => mkdirSync(`${lower}/job`) },
    warm: ({ merged }) => {
      writeFileSync(`${merged}/job/notes`, 'my notes')
      readdirSync(`${merged}/job`)
    },
    change: ({ lower }) => rmdirSync(`${lower}/job`),
    look: ({ merged }) => text(`${merged}/job/notes`),
  },
  {
    id: 'vanished-directory',
    did: 'a directory goes that has a file of the upper in it: listing',
    wish: { prepare: (lower) => mkdirSync(`${lower}/job`) },
    warm: ({ merged }) => {
      writeFileSync(`${merged}/job/notes`, 'my notes')
      readdirSync(`${merged}/job`)
    },
    change: ({ lower }) => rmdirSync(`${lower}/job`),
    look: ({ merged }) => names(`${merged}/job`),
  },
  {
    id: 'listing',
    did: 'a file is made in a directory that a process has read and holds: everybody’s listing',
    wish: { prepare: (lower) => mkdirSync(`${lower}/dir`) },
    warm: (overlay, context) => {
      writeFileSync(`${overlay.merged}/dir/a`, '')
      hold(`${overlay.merged}/dir`, context)
    },
    change: ({ lower }) => writeFileSync(`${lower}/dir/b`, ''),
    look: ({ merged }) => names(`${merged}/dir`),
    pinned: true,
  },
  {
    id: 'listing-pure-lower',
    did: 'the same in a directory of one lower alone: everybody’s listing',
    wish: {
      prepare: (lower) => {
        mkdirSync(`${lower}/dir`)
        writeFileSync(`${lower}/dir/a`, '')
      },
    },
    warm: (overlay, context) => void hold(`${overlay.merged}/dir`, context),
    change: ({ lower }) => writeFileSync(`${lower}/dir/b`, ''),
    look: ({ merged }) => names(`${merged}/dir`),
  },
]

/** Opens and reads a directory, and keeps it until the experiment ends or the result is called. */
export function hold(path: string, context: Context): () => void {
  let fd = openSync(path, 'r')
  experiments.listOpen(fd, false)
  const release = () => {
    if (fd >= 0) closeSync(fd)
    fd = -1
  }
  context.defer(release)
  return release
}

async function mayRead({ handle }: ProbeOverlay, context: Context): Promise<string> {
  if (!context.privileged) throw new Skip('another user is needed, and there is none here')
  const [bits] = await native.accessAs(context.lane, handle, 'dir', [{ uid: 65_534, gid: 65_534 }])
  return (bits! & 4) !== 0 ? 'allowed' : 'refused'
}
