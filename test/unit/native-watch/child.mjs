// SPDX-License-Identifier: MIT
// A watcher in a process of its own, which can be stopped or run where limits are low.
//   node child.mjs SCOPE DIRECTORY MAX_DIRECTORIES
// Prints a line of JSON per batch and one for the armed layer. SIGUSR2 prints the state and the counters.
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'

const require = createRequire(import.meta.url)
const native = require('node-gyp-build')(fileURLToPath(new URL('../../..', import.meta.url)))
const [scopes, directory, maxDirectories] = process.argv.slice(2)
const print = (line) => process.stdout.write(`${JSON.stringify(line)}\n`)
const lane = new native.Lane('child')
const watcher = new native.Watcher((batch) => print({ changes: batch.changes }))
process.on('SIGUSR2', () => print({ state: watcher.layerState(1), counters: watcher.counters() }))
try {
  const root = await native.openTree(lane, Buffer.from(directory).toString('latin1'), { clone: false })
  const options = { scopes: scopes.split(','), modifyNames: [], maxDirectories: Number(maxDirectories) }
  print({ armed: await watcher.addLayer(1, root, options) })
} catch (error) {
  print({ error: { code: error.code, message: error.message } })
  watcher.close()
}
lane.close()
