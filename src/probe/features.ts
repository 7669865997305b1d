// SPDX-License-Identifier: MIT

/** What this kernel has, found by trying: expectations depend on it and on nothing else. */
import { existsSync, mkdirSync, rmdirSync, writeFileSync } from 'node:fs'
import { fromText } from '../bytes.js'
import { isSyscallError } from '../errors.js'
import { native } from '../native.js'
import { Bit } from './events.js'
import { experiments } from './native.js'
import { addDevice, ownSysfs, removeDevice } from './network.js'
import { type Context, Skip } from './types.js'

export interface Feature {
  id: FeatureId
  /** What it means, in words. */
  what: string
  has: boolean
  /** How it was found, or why it could not be. */
  how: string
}

export type Features = ReadonlyMap<FeatureId, Feature>

/** Each tries one thing: true, false, or a reason why it could not be tried (which counts as false). */
type Trial = (context: Context) => boolean | string | Promise<boolean | string>

const trials = {
  admin: {
    what: 'this process is root in the first user namespace',
    how: 'CAP_SYS_ADMIN and the uid map',
    trial: (context) => context.privileged,
  },
  'kernfs-events': {
    what: 'kernfs tells of nodes that the kernel makes and removes',
    how: 'a network device added, with inotify on /sys/class/net',
    trial: kernfsEvents,
  },
  'kernfs-delete-self': {
    what: 'removed kernfs files tell it themselves',
    how: 'a cgroup removed, with inotify on its cgroup.procs',
    trial: kernfsDeleteSelf,
  },
  'kernfs-fid': {
    what: 'fanotify by file handle works on kernfs',
    how: 'an inode mark with FAN_REPORT_FID on a cgroup, or on /sys/kernel where there is none to use',
    trial: ({ cgroup }) => mark(0x200, 0, Bit.CREATE, 'reason' in cgroup ? '/sys/kernel' : cgroup.path),
  },
  'fs-mark': {
    what: 'file system marks are allowed here, on a tmpfs of its own',
    how: 'a mark FAN_MARK_FILESYSTEM on tmpfs',
    trial: (context) => mark(0x200, 0x100, Bit.CREATE, context.base),
  },
  'mark-subvolume': {
    what: 'fanotify takes inodes of a file system whose parts have ids of their own, as of a btrfs subvolume',
    how: 'listmount(2), which came with the same release (6.8)',
    trial: () => experiments.hasListmount(),
  },
  'mount-beneath': {
    what: 'a mount can be put beneath another (MOVE_MOUNT_BENEATH)',
    how: 'move_mount(2) to a path that is not there: an unknown flag is refused before that is seen',
    trial: (context) => mountBeneath(context),
  },
  'target-fid': {
    what: 'fanotify reports the handle of the child too (FAN_REPORT_TARGET_FID)',
    how: 'fanotify_init',
    trial: (context) => mark(0x1e00, 0, Bit.CREATE, context.base),
  },
  'fan-rename': {
    what: 'one event for both ends of a rename (FAN_RENAME)',
    how: 'a mark on tmpfs',
    trial: (context) => mark(0xc00, 0, Bit.RENAME, context.base),
  },
  'mount-events': {
    what: 'fanotify tells of mounts (FAN_MNT_ATTACH)',
    how: 'a mark FAN_MARK_MNTNS',
    trial: () => mark(0x4000, 0x110, 0x3000000, '/proc/self/ns/mnt'),
  },
  'lower-changes': {
    what: 'overlay option lower_changes',
    how: 'an overlay mounted with lower_changes=reval',
    trial: (context) => mountOption(context, 'lower_changes', 'reval'),
  },
} satisfies Record<string, { what: string; how: string; trial: Trial }>

export type FeatureId = keyof typeof trials

export const featureIds = Object.keys(trials) as FeatureId[]

export async function findFeatures(context: Context): Promise<Features> {
  const found = new Map<FeatureId, Feature>()
  for (const id of featureIds) {
    const { what, how, trial } = trials[id] as { what: string; how: string; trial: Trial }
    const answer = await tryIt(trial, context)
    const has = answer === true
    found.set(id, { id, what, has, how: typeof answer === 'string' ? `${how}: ${answer}` : how })
  }
  return found
}

async function tryIt(trial: Trial, context: Context): Promise<boolean | string> {
  try {
    return await trial(context)
  } catch (error) {
    if (error instanceof Skip) return `not tried, ${error.message}`
    if (isSyscallError(error)) return error.code
    throw error
  }
}

function mark(init: number, flags: number, mask: number, path: string): true {
  const group = new experiments.EventGroup(init)
  try {
    group.mark(flags, mask, fromText(path))
    return true
  } finally {
    group.close()
  }
}

/** What inotify on `path` says while `change` is made: the kinds of events, by name. */
export function listenWhile(path: string, change: () => void): number {
  const group = new experiments.EventGroup()
  try {
    group.watch(fromText(path), Bit.CREATE | Bit.DELETE | Bit.DELETE_SELF)
    change()
    return group.drain().reduce((bits, event) => bits | event.mask, 0)
  } finally {
    group.close()
  }
}

function kernfsEvents(context: Context): boolean {
  let sysfs: string
  const device = context.name('lwp')
  try {
    sysfs = ownSysfs(context)
    const told = listenWhile(`${sysfs}/class/net`, () => addDevice(device))
    removeDevice(device)
    return (told & Bit.CREATE) !== 0
  } catch (error) {
    if (!(error instanceof Skip)) throw error
    return kernfsEventsOfCgroup(context, error)
  }
}

/** Without devices: the pressure files of a cgroup are hidden. */
function kernfsEventsOfCgroup(context: Context, because: Skip): boolean {
  if ('reason' in context.cgroup) throw because
  const directory = `${context.cgroup.path}/${context.name('feature')}`
  mkdirSync(directory)
  try {
    if (!existsSync(`${directory}/cgroup.pressure`)) throw because
    const hide = () => writeFileSync(`${directory}/cgroup.pressure`, '0')
    return (listenWhile(directory, hide) & Bit.DELETE) !== 0
  } finally {
    rmdirSync(directory)
  }
}

function kernfsDeleteSelf(context: Context): boolean {
  if ('reason' in context.cgroup) throw new Skip(context.cgroup.reason)
  const directory = `${context.cgroup.path}/${context.name('feature')}`
  mkdirSync(directory)
  let gone = false
  try {
    const told = listenWhile(`${directory}/cgroup.procs`, () => {
      rmdirSync(directory)
      gone = true
    })
    return (told & Bit.DELETE_SELF) !== 0
  } finally {
    if (!gone) rmdirSync(directory)
  }
}

async function mountBeneath(context: Context): Promise<boolean> {
  const mount = await native.openTree(context.lane, fromText(context.base), { clone: true })
  try {
    await native.attachMount(context.lane, mount, fromText(`${context.base}/none`), { beneath: true })
    return true
  } catch (error) {
    if (isSyscallError(error, 'EINVAL')) return false
    if (isSyscallError(error, 'ENOENT')) return true
    throw error
  } finally {
    mount.close()
  }
}

async function mountOption(context: Context, option: string, value: string): Promise<boolean> {
  const directory = `${context.base}/${context.name('feature')}`
  mkdirSync(`${directory}/a`, { recursive: true })
  mkdirSync(`${directory}/b`)
  try {
    const overlay = await native.freshOverlay(context.lane, {
      lower: [fromText(`${directory}/a`), fromText(`${directory}/b`)],
      dataOnly: [],
      upper: null,
      options: [[option, value]],
      mountAttributes: 1,
      readOnly: true,
    })
    overlay.close()
    return true
  } catch (error) {
    if (isSyscallError(error, 'EINVAL')) return false
    throw error
  }
}
