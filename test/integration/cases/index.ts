// SPDX-License-Identifier: MIT
import { attributeCases } from './attributes.js'
import { burstCases } from './bursts.js'
import { cgroupCases } from './cgroups.js'
import { directoryCases } from './directories.js'
import { fileCases } from './files.js'
import { listingCases } from './listings.js'
import { nameCases } from './names.js'
import { stackCases } from './stacks.js'
import type { Case } from './types.js'

/** Every case that must be coherent. `LOWERWATCH_CASE` (a regular expression on the name) picks some. */
const all: Case[] = [
  ...fileCases,
  ...directoryCases,
  ...listingCases,
  ...attributeCases,
  ...nameCases,
  ...stackCases,
  ...cgroupCases,
  ...burstCases,
]

const wanted = new RegExp(process.env.LOWERWATCH_CASE ?? '')

export const cases: Case[] = all.filter((row) => wanted.test(row.name))
export type { Case, Scene } from './types.js'
