// SPDX-License-Identifier: MIT

/** The control: a file system that tells everything. And mounts, which a group of their own tells of. */
import { execFileSync } from 'node:child_process'
import { mkdirSync, unlinkSync, writeFileSync } from 'node:fs'
import { mountFor } from '../namespaces.js'
import type { Scene } from '../scene.js'

export const tmpfsScenes: Scene[] = [
  {
    fs: 'tmpfs',
    action: 'create',
    did: 'a user makes a file',
    places: ['directory'],
    prepare: (context) => {
      const directory = mountFor(context, 'tmpfs')
      return {
        target: { directory },
        change: () => writeFileSync(`${directory}/made`, ''),
        names: () => ['made'],
      }
    },
  },
  {
    fs: 'tmpfs',
    action: 'unlink',
    did: 'a user removes a file',
    places: ['directory', 'file'],
    prepare: (context) => {
      const directory = mountFor(context, 'tmpfs')
      const file = `${directory}/gone`
      writeFileSync(file, '')
      return { target: { directory, file }, change: () => unlinkSync(file) }
    },
  },
  {
    fs: 'tmpfs',
    action: 'write',
    did: 'a user writes to a file',
    content: true,
    places: ['directory', 'file'],
    prepare: (context) => {
      const directory = mountFor(context, 'tmpfs')
      const file = `${directory}/written`
      writeFileSync(file, '')
      return { target: { directory, file }, change: () => writeFileSync(file, 'x', { flag: 'a' }) }
    },
  },
  ...(['mount', 'umount'] as const).map(
    (action): Scene => ({
      fs: 'tmpfs',
      action,
      did: `something is ${action}ed in the mount namespace`,
      places: [],
      special: ['mounts'],
      prepare: (context) => {
        const directory = mountFor(context, 'tmpfs')
        const point = `${directory}/point`
        mkdirSync(point)
        const change = (verb: 'mount' | 'umount') =>
          void execFileSync(verb, verb === 'mount' ? ['-t', 'tmpfs', 'lowerwatch-probe', point] : [point])
        if (action === 'umount') change('mount')
        return { target: { directory }, change: () => change(action) }
      },
    }),
  ),
]
