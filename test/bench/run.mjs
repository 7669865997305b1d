// SPDX-License-Identifier: MIT

// npm run bench [-- kernel]: compiles the benchmark and its fixtures, and runs them in a mount namespace of their own.
import { spawnSync } from 'node:child_process'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

if (process.argv[2] === 'kernel') {
  await import('./kernel.mjs')
  process.exit()
}

const here = dirname(fileURLToPath(import.meta.url))
const root = join(here, '..', '..')

function must(program, ...programArguments) {
  const { status, error } = spawnSync(program, programArguments, { stdio: 'inherit', cwd: root })
  if (error) throw error
  if (status !== 0) process.exit(status ?? 1)
}

must(process.execPath, join(root, 'node_modules', 'typescript', 'bin', 'tsc'), '-p', here)
const main = join(root, 'build', 'bench', 'bench', 'main.js')
const namespace = process.getuid() === 0 ? ['-m', '--propagation', 'private'] : ['-UrmC']
must('unshare', ...namespace, process.execPath, main, ...process.argv.slice(2))
