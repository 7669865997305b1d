// SPDX-License-Identifier: MIT
import { existsSync, mkdirSync, readdirSync, renameSync, rmdirSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { fromText } from '../../bytes.js'
import { childCgroup, idleProcess, removeCgroup, someController } from '../cgroup.js'
import { Bit } from '../events.js'
import { experiments } from '../native.js'
import type { Scene, Stage } from '../scene.js'
import { type Context, Skip } from '../types.js'

const write = (path: string, text: string) => writeFileSync(path, text)

const user: Scene[] = [
  {
    fs: 'cgroup2',
    action: 'mkdir',
    did: 'a user makes a cgroup',
    places: ['directory'],
    prepare: (context) => {
      const directory = childCgroup(context)
      context.defer(() => rmdirSync(`${directory}/made`))
      return { target: { directory }, change: () => mkdirSync(`${directory}/made`), names: () => ['made'] }
    },
  },
  {
    fs: 'cgroup2',
    action: 'rmdir',
    did: 'a user removes a cgroup',
    places: ['directory', 'object', 'file'],
    prepare: (context) => {
      const directory = childCgroup(context)
      const object = childCgroup(context, `${directory.split('/').at(-1)}/gone`)
      const file = `${object}/cgroup.procs`
      return { target: { directory, object, file }, change: () => rmdirSync(object) }
    },
  },
  {
    fs: 'cgroup2',
    action: 'rename',
    did: 'a user renames a cgroup',
    places: ['directory', 'object'],
    special: ['rename'],
    prepare: (context) => {
      const directory = childCgroup(context)
      const object = childCgroup(context, `${directory.split('/').at(-1)}/old`)
      return { target: { directory, object }, change: () => renameSync(object, `${directory}/new`) }
    },
  },
]

/** A cgroup with a child in which files come and go when the kernel says so. */
function controllers(
  context: Context,
  on: boolean,
  watched: (parent: string, child: string) => Stage['target'],
) {
  const controller = someController(context)
  const base = (context.cgroup as { path: string }).path
  write(`${base}/cgroup.subtree_control`, `+${controller}`)
  context.defer(() => write(`${base}/cgroup.subtree_control`, `-${controller}`))
  const parent = childCgroup(context)
  const child = childCgroup(context, `${parent.split('/').at(-1)}/child`)
  const control = `${parent}/cgroup.subtree_control`
  context.defer(() => write(control, `-${controller}`))
  const before = readdirSync(child)
  write(control, `+${controller}`)
  const files = readdirSync(child).filter((name) => !before.includes(name))
  if (on) write(control, `-${controller}`)
  const target = watched(parent, child)
  return { target, change: () => write(control, `${on ? '+' : '-'}${controller}`), names: () => files }
}

/** The hint: the file that the user writes to is in the parent. */
const hint = (parent: string, child: string) => ({
  directory: child,
  file: `${parent}/cgroup.subtree_control`,
  hint: parent,
})

const kernel: Scene[] = [
  {
    fs: 'cgroup2',
    action: 'controllers-on',
    did: 'controller files appear in a cgroup (file: cgroup.subtree_control)',
    series: true,
    places: ['directory', 'file'],
    prepare: (context) => controllers(context, true, hint),
  },
  {
    fs: 'cgroup2',
    action: 'controllers-off',
    did: 'controller files go from a cgroup (file: cgroup.subtree_control)',
    series: true,
    places: ['directory', 'file'],
    prepare: (context) => controllers(context, false, hint),
  },
  ...[true, false].map(
    (on): Scene => ({
      fs: 'cgroup2',
      action: on ? 'files-shown' : 'files-hidden',
      did: `pressure files ${on ? 'appear in' : 'go from'} a cgroup`,
      series: true,
      places: ['directory'],
      // The write to cgroup.pressure.
      ignore: ['MODIFY'],
      prepare: (context) => pressure(context, on),
    }),
  ),
  {
    fs: 'cgroup2',
    action: 'second-mount',
    did: 'controller files appear, seen by watchers on a second mount of the hierarchy',
    series: true,
    places: ['directory'],
    prepare: async (context) => {
      const { mountCgroup2 } = await import('../namespaces.js')
      const base = (context.cgroup as { path?: string }).path
      if (base === undefined) throw new Skip((context.cgroup as { reason: string }).reason)
      const second = mountCgroup2(context)
      const seen = (child: string) => `${second}${child.slice(child.indexOf(`/${base.split('/').at(-1)}`))}`
      return controllers(context, true, (_, child) => {
        const directory = seen(child)
        if (!existsSync(directory)) throw new Skip('the second mount starts at another cgroup')
        return { directory }
      })
    },
  },
  {
    fs: 'cgroup2',
    action: 'namespace',
    did: 'controller files appear, seen by watchers in a cgroup namespace',
    series: true,
    places: ['directory'],
    prepare: async (context) => {
      const { cgroupNamespace } = await import('../namespaces.js')
      const stage = controllers(context, true, (_, child) => ({ directory: child }))
      const directory = await cgroupNamespace(context, stage.target.directory)
      return { ...stage, target: { directory } }
    },
  },
]

function pressure(context: Context, show: boolean): Stage {
  const directory = childCgroup(context)
  const control = `${directory}/cgroup.pressure`
  if (!existsSync(control)) throw new Skip('this kernel has no pressure files (PSI)')
  const all = readdirSync(directory)
  write(control, '0')
  const files = all.filter((name) => !readdirSync(directory).includes(name))
  if (!show) write(control, '1')
  return { target: { directory }, change: () => write(control, show ? '1' : '0'), names: () => files }
}

/**
 * Content that the kernel changes in `cgroup.events`, by something that is done in a cgroup above or below: what the user
 * writes to is in no directory that is watched. `cached`: the file's inode is in memory.
 */
function content(
  action: string,
  did: string,
  cached: boolean,
  prepare: (context: Context, directory: string) => Stage['change'],
): Scene {
  return {
    fs: 'cgroup2',
    action: cached ? action : `${action}-uncached`,
    did: `${did}${cached ? '' : ', and the inode is not in memory'}`,
    places: cached ? ['directory', 'file'] : ['directory'],
    late: true,
    content: true,
    prepare: (context) => {
      const above = childCgroup(context)
      const directory = childCgroup(context, `${above.split('/').at(-1)}/watched`)
      const change = prepare(context, directory)
      const file = `${directory}/cgroup.events`
      return { target: cached ? { directory, file } : { directory }, change, settle: sentinel(context) }
    },
  }
}

/** A later change of the same sort, elsewhere: when it is told, one kernel thread has come that far. */
function sentinel(context: Context): () => void {
  const directory = childCgroup(context)
  if (!existsSync(`${directory}/cgroup.freeze`)) return () => undefined
  const group = new experiments.EventGroup()
  context.defer(() => group.close())
  group.watch(fromText(`${directory}/cgroup.events`), Bit.MODIFY)
  return () => {
    write(`${directory}/cgroup.freeze`, '1')
    if (!group.wait(10_000)) throw new Error('cgroup.events of another cgroup was not told either')
  }
}

function below(context: Context, directory: string): string {
  const path = `${directory}/below`
  mkdirSync(path)
  context.defer(() => removeCgroup(path))
  return path
}

const changes = [true, false].flatMap((cached): Scene[] => [
  content(
    'populated',
    'cgroup.events says populated: the first process entered',
    cached,
    (context, directory) => {
      const procs = `${below(context, directory)}/cgroup.procs`
      const { pid } = idleProcess(context)
      return () => write(procs, String(pid))
    },
  ),
  content('empty', 'cgroup.events says empty: the last process left', cached, (context, directory) => {
    const procs = `${below(context, directory)}/cgroup.procs`
    const { pid, end } = idleProcess(context)
    write(procs, String(pid))
    return end
  }),
  content('frozen', 'cgroup.events says frozen', cached, (_, directory) => {
    const freeze = `${dirname(directory)}/cgroup.freeze`
    if (!existsSync(freeze)) throw new Skip('no cgroup.freeze here')
    return () => write(freeze, '1')
  }),
])

export const cgroup2Scenes: Scene[] = [...user, ...kernel, ...changes]
