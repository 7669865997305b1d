// SPDX-License-Identifier: MIT
import { bursts } from './bursts.js'
import { ladderRows } from './ladder.js'
import { markFacts } from './marks.js'
import { overlayFacts } from './overlay/facts.js'
import { listings } from './overlay/listings.js'
import { staleness } from './overlay/staleness.js'
import { removals } from './removal.js'
import { type Scene, sceneExperiment } from './scene.js'
import { cgroup2Scenes } from './scenes/cgroup2.js'
import { deviceMadeScenes } from './scenes/devices.js'
import { tmpfsScenes } from './scenes/tmpfs.js'
import { userMadeScenes } from './scenes/user.js'
import type { Experiment } from './types.js'

export function allScenes(): Scene[] {
  return [...cgroup2Scenes, ...deviceMadeScenes, ...userMadeScenes, ...tmpfsScenes]
}

/** In the order in which they are done and shown. */
export function allExperiments(): Experiment[] {
  return [
    ...allScenes().map(sceneExperiment),
    ...removals,
    ...staleness,
    ...listings,
    ...overlayFacts,
    ...markFacts,
    ...bursts,
    ...ladderRows,
  ]
}
