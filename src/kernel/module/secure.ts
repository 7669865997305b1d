// SPDX-License-Identifier: MIT

import { lstat, readdir, readlink } from 'node:fs/promises'
import { resolve } from 'node:path'
import { LowerwatchError } from '../../errors.js'
import { isCode } from '../workspace.js'

interface Access {
  uid: number
  gid: number
  mode: number
}

/** Who can change a file, besides root and the one who runs this; null when nobody can. An access list shows as the group's. */
export function stranger({ uid, gid, mode }: Access, self = process.geteuid!()): string | null {
  if (uid !== 0 && uid !== self) return `belongs to user ${uid}`
  // A link has no mode of its own.
  if ((mode & 0o170000) === 0o120000) return null
  if (mode & 0o002) return 'can be written by everybody'
  return mode & 0o020 ? `can be written by group ${gid}` : null
}

/**
 * A path without symbolic links, after a look at all that is on it: nobody but root can change it. What is not there (any
 * more) is taken as it is written. Links lead to below `root`, as in chroot(2).
 *
 * The look is worth something because of what it asks for: between it and the use only root could put something else
 * there. openat2(2) would keep our own calls within a tree, but not depmod, dkms, make and modprobe.
 *
 * @param path absolute
 * @param why what others must not change it for, after the path in the message
 * @throws LowerwatchError NOT_PERMITTED with the first path that somebody else can change
 */
export async function securePath(path: string, why: string, root = ''): Promise<string> {
  const look = async (at: string) => {
    const stat = await statOf(at)
    const who = stat && stranger(stat)
    const sticky = stat?.isDirectory() && (stat.mode & 0o1000) !== 0
    if (who?.startsWith('belongs') || (who && !sticky)) throw refusal(at, who, why)
    return { stat, who }
  }
  let at = root
  let shared = (await look(at || '/')).who
  const rest = path.split('/')
  for (let links = 0; rest.length > 0; ) {
    const part = rest.shift()!
    if (part === '' || part === '.') continue
    if (part === '..') {
      if (at !== root) at = at.slice(0, at.lastIndexOf('/'))
      continue
    }
    const next = `${at}/${part}`
    const { stat, who } = await look(next)
    // In a sticky directory what is there is safe, and what is not there yet can be anybody's.
    if (stat === null && shared) throw refusal(at || '/', shared, why)
    if (!stat?.isSymbolicLink()) {
      at = next
      shared = who
      continue
    }
    if (++links > 40) throw new LowerwatchError('NO_SUCH_PATH', `${path} has too many links`)
    const target = await readlink(next)
    if (target.startsWith('/')) at = root
    rest.unshift(...target.split('/'))
  }
  return at || '/'
}

/** The same for a directory and all below it, as far as `enter` wants it; and for what links in it lead to. */
export async function secureTree(
  directory: string,
  why: string,
  enter: (name: string) => boolean,
  seen = new Set<string>(),
): Promise<void> {
  const real = await securePath(directory, why)
  if (seen.has(real)) return
  seen.add(real)
  for (const entry of await readdir(real, { withFileTypes: true })) {
    const path = `${real}/${entry.name}`
    if (!enter(entry.name)) continue
    const stat = await lstat(path)
    if (stat.isDirectory()) await secureTree(path, why, enter, seen)
    else if (stat.isSymbolicLink()) await secureLink(path, why, enter, seen)
    else {
      const who = stranger(stat)
      if (who) throw refusal(path, who, why)
    }
  }
}

async function secureLink(
  link: string,
  why: string,
  enter: (name: string) => boolean,
  seen: Set<string>,
): Promise<void> {
  const path = await securePath(link, why)
  if ((await statOf(path))?.isDirectory()) await secureTree(path, why, enter, seen)
}

/** What root runs or builds from, another user must not be able to change. Another user's own build is that user's business. */
export async function secureForRoot(path: string, why: string): Promise<void> {
  if (process.geteuid!() === 0) await securePath(resolve(path), why)
}

/** The cache: what root finds there it made itself, and nobody else can write to what it makes. */
export async function secureCache(root: string): Promise<void> {
  await secureForRoot(root, 'root builds from a cache of its own: use sudo -H, or set XDG_CACHE_HOME')
  if (process.geteuid!() === 0) process.umask(process.umask() | 0o022)
}

function refusal(path: string, who: string, why: string): LowerwatchError {
  return new LowerwatchError('NOT_PERMITTED', `${path} ${who}`, { hint: why })
}

async function statOf(path: string) {
  try {
    return await lstat(path)
  } catch (error) {
    if (isCode(error, 'ENOENT', 'ENOTDIR')) return null
    throw error
  }
}
