// SPDX-License-Identifier: MIT

/** mkdir, rmdir and rename by a user on pseudo file systems, and on tmpfs as the control. */
import { existsSync, mkdirSync, readdirSync, renameSync, rmdirSync } from 'node:fs'
import { mountFor, mountOptions } from '../namespaces.js'
import { probePrefix } from '../plan.js'
import type { Scene } from '../scene.js'
import { type Context, Skip } from '../types.js'

/** A file system in which a user may make directories, which are more than directories there. */
interface Kind {
  fs: string
  what: string
  /** In each of them; '' for none. */
  file: string
  options: (context: Context) => string[]
  /** Below the root of the file system. */
  inside: (root: string) => string
}

/** mkdir, rmdir and rename by a user, in a directory that `open` gives. */
function userScenes({ fs, what, file, options, inside }: Kind): Scene[] {
  const directoryOf = (context: Context, made: string) => {
    const given = options(context)
    const type = fs === 'cgroup1' ? 'cgroup' : fs
    const root = mountFor(context, type, given)
    const below = inside(root)
    const directory = below === '' ? root : `${root}/${below}`
    const path = `${directory}/${made}`
    const make = () => {
      // A hierarchy or an instance outlives its mounts.
      if (fs !== 'tmpfs') context.remember(`directory ${type} ${mountOptions(type, given)} ${below}/${made}`)
      mkdirSync(path)
      context.defer(() => {
        for (const left of [path, `${path}-renamed`]) if (existsSync(left)) rmdirSync(left)
      })
    }
    return { directory, path, make }
  }
  const filePlace: Scene['places'] = file === '' ? [] : ['file']
  const target = (directory: string, path: string) => ({
    directory,
    object: path,
    ...(file === '' ? {} : { file: `${path}/${file}` }),
  })
  return [
    {
      fs,
      action: 'mkdir',
      did: `a user makes ${what}`,
      places: ['directory'],
      prepare: (context) => {
        const name = context.name('lwp')
        const { directory, make } = directoryOf(context, name)
        return { target: { directory }, change: make, names: () => [name] }
      },
    },
    {
      fs,
      action: 'rmdir',
      did: `a user removes ${what}`,
      places: ['directory', 'object', ...filePlace],
      prepare: (context) => {
        const { directory, path, make } = directoryOf(context, context.name('lwp'))
        make()
        return { target: target(directory, path), change: () => rmdirSync(path) }
      },
    },
    {
      fs,
      action: 'rename',
      did: `a user renames ${what}`,
      places: ['directory', 'object'],
      special: ['rename'],
      prepare: (context) => {
        const { directory, path, make } = directoryOf(context, context.name('lwp'))
        make()
        return { target: { directory, object: path }, change: () => renameSync(path, `${path}-renamed`) }
      },
    },
  ]
}

/** Subsystems in which a directory of any name does nothing until it is configured. */
const harmless = ['netconsole', 'nullb', 'usb_gadget']

const none = () => []

const kinds: Kind[] = [
  {
    fs: 'cgroup1',
    what: 'a cgroup',
    file: 'cgroup.procs',
    // A hierarchy of its own, without controllers: those of the machine are not touched.
    options: (context) => ['none', `name=${context.name(probePrefix)}`],
    inside: () => '',
  },
  {
    fs: 'configfs',
    what: 'a configuration item',
    file: '',
    options: none,
    inside: (root) => {
      const found = harmless.find((name) => existsSync(`${root}/${name}`))
      if (found !== undefined) return found
      throw new Skip(`no subsystem to try (there are: ${readdirSync(root).join(', ') || 'none'})`)
    },
  },
  {
    fs: 'tracefs',
    what: 'a tracing instance',
    file: 'tracing_on',
    options: none,
    inside: (root) => {
      if (existsSync(`${root}/instances`)) return 'instances'
      throw new Skip('this kernel has no tracing instances')
    },
  },
  { fs: 'tmpfs', what: 'a directory', file: '', options: none, inside: () => '' },
]

export const userMadeScenes: Scene[] = kinds.flatMap(userScenes)
