// SPDX-License-Identifier: MIT

/** Devices that appear and go: nodes that the kernel makes in sysfs and debugfs. */
import { existsSync, mkdirSync } from 'node:fs'
import { removeLoop } from '../loop.js'
import { mountFor } from '../namespaces.js'
import { experiments } from '../native.js'
import { addDevice, isMounted, ownSysfs, removeDevice, renameDevice } from '../network.js'
import type { Scene } from '../scene.js'
import { type Context, Skip } from '../types.js'

/** Both places where a device shows: class links and the devices themselves. */
function deviceScenes(): Scene[] {
  const scene = (
    action: string,
    did: string,
    change: Scene['prepare'],
    special: Scene['special'] = [],
  ): Scene => ({
    fs: 'sysfs',
    action,
    did,
    series: true,
    places: action === 'device-appears' ? ['directory'] : ['directory', 'object', 'file'],
    special,
    prepare: change,
  })
  const made = (context: Context) => {
    const sysfs = ownSysfs(context)
    const name = context.name('lwp')
    addDevice(name)
    const object = `${sysfs}/devices/virtual/net/${name}`
    return { name, target: { directory: `${sysfs}/class/net`, object, file: `${object}/address` } }
  }
  return [
    scene('device-appears', 'a network device appears (/sys/class/net)', (context) => {
      const directory = `${ownSysfs(context)}/class/net`
      const name = context.name('lwp')
      context.defer(() => {
        if (existsSync(`${directory}/${name}`)) removeDevice(name)
      })
      return { target: { directory }, change: () => void addDevice(name), names: () => [name] }
    }),
    scene('device-goes', 'a network device goes', (context) => {
      const { name, target } = made(context)
      return { target, change: () => removeDevice(name) }
    }),
    scene(
      'device-renamed',
      'a network device gets another name',
      (context) => {
        const { name, target } = made(context)
        const other = `${name}r`
        context.defer(() => removeDevice(existsSync(`${target.directory}/${other}`) ? other : name))
        return { target, change: () => renameDevice(name, other) }
      },
      ['rename'],
    ),
    {
      fs: 'sysfs',
      action: 'mkdir',
      did: 'a user tries to make a directory',
      places: ['directory'],
      prepare: (context) => {
        const directory = `${ownSysfs(context)}/class/net`
        return { target: { directory }, change: () => mkdirSync(`${directory}/lwp`) }
      },
    },
  ]
}

/** A loop device: the only thing that makes debugfs entries on nearly every kernel. */
function loopNumber(context: Context): number {
  if (!context.privileged) throw new Skip('a loop device takes CAP_SYS_ADMIN in the first user namespace')
  if (!existsSync('/dev/loop-control')) throw new Skip('no /dev/loop-control here')
  for (let number = 700 + (process.pid % 200); number < 1_000; number++)
    if (!existsSync(`/sys/block/loop${number}`)) return number
  throw new Skip('no free loop device')
}

/** With `/sys` as it is: block devices belong to no namespace. */
function loopScenes(fs: 'sysfs' | 'debugfs', open: (context: Context) => string): Scene[] {
  return [true, false].map((add) => ({
    fs,
    action: add ? 'block-appears' : 'block-goes',
    did: `a block device ${add ? 'appears' : 'goes'} (${fs === 'sysfs' ? '/sys/devices/virtual/block' : 'block/loopN'})`,
    ...(fs === 'sysfs' ? { series: true } : { ignoreInObject: ['DELETE'] }),
    places: add ? ['directory'] : ['directory', 'object'],
    prepare: (context) => {
      const directory = open(context)
      const number = loopNumber(context)
      const make = () => {
        context.remember(`loop ${number}`)
        experiments.loopDevice(number, true)
        context.defer(async () => {
          if (existsSync(`/sys/block/loop${number}`)) await removeLoop(number)
        })
      }
      if (!add) make()
      const object = `${directory}/loop${number}`
      if (!add && !existsSync(object)) throw new Skip('loop devices do not show here')
      const target = add ? { directory } : { directory, object }
      return { target, change: add ? make : () => removeLoop(number), names: () => [`loop${number}`] }
    },
  }))
}

function debugfsBlock(context: Context): string {
  const directory = `${mountFor(context, 'debugfs')}/block`
  if (!existsSync(directory)) throw new Skip('debugfs has no block directory here')
  return directory
}

function sysfsBlock(): string {
  if (!isMounted('/sys')) throw new Skip('/sys is not mounted')
  const directory = '/sys/devices/virtual/block'
  if (!existsSync(directory)) throw new Skip('there are no virtual block devices')
  return directory
}

export const deviceMadeScenes: Scene[] = [
  ...deviceScenes(),
  ...loopScenes('sysfs', sysfsBlock),
  ...loopScenes('debugfs', debugfsBlock),
]
