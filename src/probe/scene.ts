// SPDX-License-Identifier: MIT

/** One change and everybody who might hear of it: a row for each watcher. */
import { isSyscallError } from '../errors.js'
import type { SeenEvent } from './events.js'
import { type Context, type Experiment, type Observation, Skip } from './types.js'
import { Labels, Listener, type Target, type Watcher, watchersFor } from './watchers.js'

export interface Stage {
  target: Target
  /** Makes the change. An error with a code is an answer too: `refused: EPERM`. */
  change(): void | Promise<void>
  /** For what is told late: returns when something that happened after the change has been told. */
  settle?: () => void
  /** Names that come or go, when more than one kernel may differ in them; asked after the change. */
  names?: () => string[]
}

export interface Scene {
  fs: string
  action: string
  /** The change, as the subject of a sentence: "controller files appear". */
  did: string
  places: ('directory' | 'object' | 'file')[]
  special?: ('rename' | 'mounts')[]
  /** Told by a kernel thread, some time after the call has returned. */
  late?: boolean
  /** What changes is the content of `file`, and no name. */
  content?: boolean
  /** The kernfs series makes the kernel tell of it. */
  series?: true
  /** Kinds of events that the user's own call makes beside the change. */
  ignore?: string[]
  /** The same for watchers on the object: what is in it differs from kernel to kernel. */
  ignoreInObject?: string[]
  prepare(context: Context): Stage | Promise<Stage>
}

/** The kernel sends late events of one file at most 10 ms apart, and of several files in no order. */
const lateMs = 100

export function sceneWatchers(scene: Scene): Watcher[] {
  return watchersFor(scene.places, scene.special ?? [], scene.content === true)
}

export function sceneExperiment(scene: Scene): Experiment {
  const chosen = sceneWatchers(scene)
  const id = (watcher: Watcher) => `${scene.fs}/${scene.action}/${watcher.id}`
  return {
    group: 'kernfs',
    rows: chosen.map((watcher) => ({ id: id(watcher), did: `${scene.did}: ${watcher.title}` })),
    async run(context) {
      const stage = await scene.prepare(context)
      const labels = new Labels()
      for (const [label, path] of Object.entries(stage.target)) {
        if (label !== 'filesystem' && path !== undefined) await labels.add(context, label, path)
      }
      const listeners = chosen.map((watcher) => new Listener(watcher, stage.target, labels))
      context.defer(() => {
        for (const listener of listeners) listener.close()
      })
      const refusal = await attempt(stage)
      // Whoever may not even try learns nothing of the kernel.
      if (refusal === 'EACCES' && !context.privileged) throw new Skip('this user may not make the change')
      const rows = new Map<string, Observation | Skip>()
      const names = refusal === '' ? (stage.names?.() ?? null) : null
      stage.settle?.()
      const heard = collect(listeners, scene.late === true)
      for (const [index, listener] of listeners.entries()) {
        const inObject = listener.watcher.place === 'object' ? (scene.ignoreInObject ?? []) : []
        const ignore = [...(scene.ignore ?? []), ...inObject]
        const observation = listener.observe(heard[index]!, names, ignore, context)
        rows.set(id(listener.watcher), refusal === '' ? observation : { seen: `the change: ${refusal}` })
      }
      return rows
    },
  }
}

function collect(listeners: Listener[], late: boolean): SeenEvent[][] {
  const heard = listeners.map((listener) => listener.read())
  const end = performance.now() + (late ? lateMs : 0)
  while (performance.now() < end) {
    listeners.find((listener) => listener.refused === '')?.wait(10)
    for (const [index, listener] of listeners.entries()) heard[index]!.push(...listener.read())
  }
  return heard
}

async function attempt(stage: Stage): Promise<string> {
  try {
    await stage.change()
    return ''
  } catch (error) {
    if (isSyscallError(error)) return error.code
    throw error
  }
}
