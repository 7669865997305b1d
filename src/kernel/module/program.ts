// SPDX-License-Identifier: MIT

import { existsSync, readFileSync, realpathSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { securePath, secureTree } from './secure.js'

const project = fileURLToPath(new URL('../../..', import.meta.url))
const why =
  'root would run it for each kernel that is installed: install lowerwatch as root (npm install --global)'

/**
 * This program as a script of the system will start it: Node, this package and those that it needs.
 *
 * @throws LowerwatchError NOT_PERMITTED when somebody else can change any of it
 */
export async function secureProgram(folder = project, node = process.execPath): Promise<void> {
  await securePath(node, why)
  const seen = new Set<string>()
  for (const path of packages(realpathSync(folder)))
    await secureTree(path, why, (name) => name !== 'node_modules' && name !== '.git', seen)
}

/** Folders of a package and of those that it needs, where Node finds them. */
function packages(folder: string, found = new Set<string>()): Set<string> {
  if (found.has(folder)) return found
  found.add(folder)
  const manifest = join(folder, 'package.json')
  const { dependencies = {} } = JSON.parse(readFileSync(manifest, 'utf8')) as { dependencies?: object }
  for (const name of Object.keys(dependencies)) {
    const places = createRequire(manifest).resolve.paths(name) ?? []
    const place = places
      .map((path) => join(path, name))
      .find((path) => existsSync(join(path, 'package.json')))
    if (place !== undefined) packages(realpathSync(place), found)
  }
  return found
}
