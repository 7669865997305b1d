// SPDX-License-Identifier: MIT

/** Which file systems take which marks, and what fanotify makes of events and handles. */
import { execFileSync } from 'node:child_process'
import {
  closeSync,
  mkdirSync,
  openSync,
  readFileSync,
  readlinkSync,
  rmdirSync,
  rmSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs'
import { fromText } from '../bytes.js'
import { native } from '../native.js'
import { Bit, kindsOf } from './events.js'
import { mountFor } from './namespaces.js'
import { type EventGroup, experiments } from './native.js'
import { lastLine } from './network.js'
import { answer } from './removal.js'
import { type Context, type Experiment, type Observation, Skip } from './types.js'

const FID = 0x200
const DFID_NAME = 0xc00
const FILESYSTEM = 0x100

interface Case {
  id: string
  did: string
  run(context: Context): Promise<Observation> | Observation
}

function group(context: Context, init: number): EventGroup {
  const made = new experiments.EventGroup(init)
  context.defer(() => made.close())
  return made
}

const said = (listener: EventGroup) =>
  listener
    .drain()
    .map((event) => kindsOf(event.mask).join('|'))
    .join(' ') || 'nothing'

const places: [name: string, path: (context: Context) => string][] = [
  ['cgroup2', (context) => ('path' in context.cgroup ? context.cgroup.path : skip(context.cgroup.reason))],
  ['sysfs', () => '/sys'],
  ['proc', () => '/proc'],
  ['tmpfs', (context) => context.base],
  ['btrfs-subvolume', subvolume],
]

function skip(reason: string): never {
  throw new Skip(reason)
}

/** A subvolume of a throw-away btrfs, where the tools and the file system are. */
function subvolume(context: Context): string {
  if (!context.privileged) skip('a btrfs image takes root in the first user namespace')
  const image = `${context.base}/${context.name('image')}`
  const point = `${context.base}/${context.name('btrfs')}`
  mkdirSync(point)
  writeFileSync(image, '')
  truncateSync(image, 128 * 1024 * 1024)
  context.defer(() => rmSync(image))
  try {
    execFileSync('mkfs.btrfs', ['--quiet', image], { stdio: 'pipe' })
    execFileSync('mount', ['-t', 'btrfs', '-o', 'loop', image, point], { stdio: 'pipe' })
    // The loop device goes with the mount.
    context.defer(() => void execFileSync('umount', [point]))
    execFileSync('btrfs', ['subvolume', 'create', `${point}/sub`], { stdio: 'pipe' })
  } catch (error) {
    skip(`no btrfs here: ${lastLine(error)}`)
  }
  return `${point}/sub`
}

const marks = places.flatMap(([fs, path]) =>
  (['inode', 'filesystem'] as const).map(
    (scope): Case => ({
      id: `facts/mark/${fs}/${scope}`,
      did: `a fanotify ${scope} mark by file handle on ${fs}`,
      run(context) {
        const place = path(context)
        const made = group(context, DFID_NAME)
        const seen = answer(() => {
          made.mark(scope === 'inode' ? 0 : FILESYSTEM, Bit.CREATE | Bit.DELETE, fromText(place))
          return 'taken'
        })
        if (seen === 'EPERM' && !context.privileged)
          throw new Skip('needs CAP_SYS_ADMIN in the first user namespace')
        return { seen: seen === 'taken' ? seen : `refused: ${seen}` }
      },
    }),
  ),
)

const facts: Case[] = [
  {
    id: 'facts/merged-events',
    did: 'a name is made and removed before fanotify is read',
    run(context) {
      const directory = mountFor(context, 'tmpfs')
      const made = group(context, DFID_NAME)
      made.mark(0, Bit.CREATE | Bit.DELETE, fromText(directory))
      writeFileSync(`${directory}/x`, '')
      unlinkSync(`${directory}/x`)
      const one = said(made)
      writeFileSync(`${directory}/y`, '')
      execFileSync('rm', [`${directory}/y`])
      return { seen: `by one process ${one}, by two ${said(made)}` }
    },
  },
  {
    id: 'facts/gone-handle',
    did: 'open_by_handle_at of a directory that is gone',
    async run(context) {
      const root = await native.openTree(context.lane, fromText(context.base), { clone: false })
      context.defer(() => root.close())
      const name = context.name('gone')
      mkdirSync(`${context.base}/${name}`)
      const handle = await native.handleAt(context.lane, root, fromText(name))
      rmdirSync(`${context.base}/${name}`)
      const opened = await native.openByHandle(context.lane, root, handle!)
      opened?.close()
      return { seen: opened === null ? 'ESTALE' : 'opens' }
    },
  },
  {
    id: 'facts/handle-outside',
    did: 'open_by_handle_at, through a bind mount, of a directory beside it: the path it shows',
    async run(context) {
      const name = context.name('bind')
      const [inside, outside, point] = ['inside', 'outside', 'point'].map((part) => {
        mkdirSync(`${context.base}/${name}/${part}`, { recursive: true })
        return `${context.base}/${name}/${part}`
      }) as [string, string, string]
      execFileSync('mount', ['--bind', inside, point], { stdio: 'pipe' })
      context.defer(() => void execFileSync('umount', [point]))
      const root = await native.openTree(context.lane, fromText(point), { clone: false })
      const other = await native.openTree(context.lane, fromText(outside), { clone: false })
      context.defer(() => root.close())
      context.defer(() => other.close())
      const handle = await native.handleAt(context.lane, other, '')
      const opened = await native.openByHandle(context.lane, root, handle!)
      if (opened === null) return { seen: 'ESTALE' }
      context.defer(() => opened.close())
      const shown = readlinkSync(`/proc/self/fd/${opened.fd}`)
      return { seen: shown === '/' ? '/' : 'its own path' }
    },
  },
  {
    id: 'facts/mapped-write',
    did: 'a write through a shared mapping: events before and after close',
    run(context) {
      const file = `${context.base}/${context.name('mapped')}`
      writeFileSync(file, Buffer.alloc(4096))
      const listener = new experiments.EventGroup()
      context.defer(() => listener.close())
      listener.watch(fromText(file), Bit.MODIFY | Bit.CLOSE_WRITE)
      const fd = openSync(file, 'r+')
      let before: string
      try {
        experiments.writeMapped(fd)
        before = said(listener)
      } finally {
        closeSync(fd)
      }
      return { seen: `before ${before}, after ${said(listener)}` }
    },
  },
  {
    id: 'facts/mount-group',
    did: 'one group for mounts and for files (FAN_REPORT_MNT with FAN_REPORT_FID)',
    run(context) {
      const seen = answer(() => {
        new experiments.EventGroup(0x4000 | FID).close()
        return 'taken'
      })
      if (seen === 'EPERM' && !context.privileged) throw new Skip('needs CAP_SYS_ADMIN')
      return { seen: seen === 'taken' ? seen : `refused: ${seen}` }
    },
  },
  {
    id: 'facts/group-limit',
    did: 'how many fanotify groups and inotify instances a user may have',
    run() {
      const read = (path: string) =>
        Number(answer(() => readFileSync(`/proc/sys/fs/${path}`, 'latin1').trim()))
      const measured = {
        fanotifyGroups: read('fanotify/max_user_groups'),
        inotifyInstances: read('inotify/max_user_instances'),
        inotifyWatches: read('inotify/max_user_watches'),
      }
      return { seen: measured.fanotifyGroups > 0 ? 'limited' : 'no limit to be seen', measured }
    },
  },
]

export const markFacts: Experiment[] = [...marks, ...facts].map(({ id, did, run }) => ({
  group: 'overlay',
  rows: [{ id, did }],
  run: async (context) => new Map([[id, await run(context)]]),
}))
