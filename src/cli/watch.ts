// SPDX-License-Identifier: MIT
import { display, join, toBuffer, toJson } from '../bytes.js'
import { isSyscallError, LowerwatchError } from '../errors.js'
import { type Change, native } from '../native.js'
import { absolutePath } from '../overlay/discover.js'
import { kindNames } from '../watch/changes.js'
import { argumentBytes } from './arguments.js'

/** `lowerwatch watch PATH… [-0] [--json]`: the raw change stream of directories, until it is interrupted. */
export async function command(positional: string[], options: Record<string, unknown>): Promise<number> {
  const lane = new native.Lane('watch')
  const roots = argumentBytes(positional).map(absolutePath)
  const print = printer(roots, options)
  const watcher = new native.Watcher(({ changes }) => process.stdout.write(Buffer.concat(changes.map(print))))
  try {
    for (const [index, path] of roots.entries()) {
      const root = await open(lane, path)
      const armed = await watcher.addLayer(index, root, {
        scopes: ['filesystem', 'inode', 'inotify'],
        modifyNames: ['cgroup.subtree_control'],
        maxDirectories: 1_000_000,
      })
      const why = armed.reasons.length > 0 ? ` (${armed.reasons.join('; ')})` : ''
      process.stderr.write(`lowerwatch: watching ${display(path)} by ${armed.scope}${why}\n`)
      if (armed.unwatched.length > 0) process.stderr.write(`lowerwatch: ${armed.unwatchedReason}\n`)
    }
    await new Promise<void>((resolve) => {
      for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, resolve)
    })
    await watcher.flush()
    return 0
  } finally {
    watcher.close()
    lane.close()
  }
}

async function open(lane: InstanceType<typeof native.Lane>, path: string) {
  try {
    return await native.openTree(lane, path, { clone: false })
  } catch (error) {
    if (!isSyscallError(error)) throw error
    const code = error.code === 'ENOENT' ? 'NO_SUCH_PATH' : 'NOT_PERMITTED'
    throw new LowerwatchError(code, `cannot watch ${display(path)}: ${error.code}`, { cause: error })
  }
}

function printer(roots: string[], options: Record<string, unknown>): (change: Change) => Buffer {
  return (change) => {
    const path = join(join(roots[change.layer]!, change.directory), change.name)
    const kinds = kindNames(change.kind)
    if (options.json === true) return Buffer.from(`${JSON.stringify({ path: toJson(path), kinds })}\n`)
    // With -0 names are written as they are: a reader splits at the zero byte, which no name has.
    if (options.null === true)
      return Buffer.concat([Buffer.from(`${kinds.join(',')} `), toBuffer(path), zero])
    return Buffer.from(`${kinds.join(',')} ${display(path)}\n`)
  }
}

const zero = Buffer.from([0])
