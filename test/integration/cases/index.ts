// SPDX-License-Identifier: MIT
import type { LowerFs } from '../fixture/lowers.js'
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

const fileSystems: LowerFs[] = ['tmpfs', 'ext4', 'root', 'cgroup2']

export const cases: Case[] = all.filter((row) => wanted.test(row.name))

/** The rows of each file system, where there are any. */
export const casesByFileSystem = fileSystems
  .map((lowerFs) => ({ lowerFs, rows: cases.filter((row) => row.lowerFs.includes(lowerFs)) }))
  .filter(({ rows }) => rows.length > 0)

export type { Case, Scene } from './types.js'
