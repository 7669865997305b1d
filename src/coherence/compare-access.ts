// SPDX-License-Identifier: MIT
import type { ByteString } from '../bytes.js'
import { isSyscallError } from '../errors.js'
import { native, type Stat } from '../native.js'
import type { OpenOverlay } from '../overlay/types.js'
import { isDirectory, modeLink, modeType, type Pair } from './identity.js'
import { statInLayer } from './layer-stat.js'
import type { Oracle } from './oracle.js'

/**
 * Permission checks. overlayfs copies mode and owner of the real inode at lookup and checks those (ovl_permission,
 * fs/overlayfs/inode.c), while stat(2) shows the real inode's. So the kernel itself is asked, as the owner, as a
 * member of the group and as anybody else, in the live overlay and in the fresh one.
 */
const read = 4
const write = 2
const execute = 1

/** Whether the live overlay grants what the mode says; where it does not, a fresh mount says which of the two is right. */
export async function grantsByMode(overlay: OpenOverlay, path: ByteString): Promise<boolean> {
  try {
    const stat = await native.statAt(overlay.lane, overlay.root, path)
    if (stat === null || (stat.mode & modeType) === modeLink) return true
    const live = await native.accessAs(overlay.lane, overlay.root, path, credentialsFor(stat))
    const mask = isWritable(overlay) ? read | write | execute : read | execute
    return modesOf(stat).every((bits, index) => ((live[index]! ^ bits) & mask) === 0)
  } catch (error) {
    // In a user namespace not every user exists: nor can the comparison ask them.
    if (isSyscallError(error, 'EINVAL', 'EPERM')) return true
    if (isSyscallError(error)) return false
    throw error
  }
}

export class Access {
  readonly #overlay: OpenOverlay
  readonly #oracle: Oracle
  readonly #writable: boolean
  /** Why it could not be compared; '' when it could. */
  unable = ''

  constructor(overlay: OpenOverlay, oracle: Oracle) {
    this.#overlay = overlay
    this.#oracle = oracle
    this.#writable = isWritable(overlay)
  }

  /** What differs for one name that is the same inode in both; null when nothing does. */
  async compare({ path, fresh, inUpper }: Pair): Promise<string | null> {
    // A copied-up inode changes through the overlay only; a link has no permissions.
    if (inUpper || (fresh.mode & modeType) === modeLink || this.unable !== '') return null
    const credentials = credentialsFor(fresh)
    const { lane, root } = this.#overlay
    try {
      const live = await native.accessAs(lane, root, path, credentials)
      // Most often the mode says all there is to say. Where it does not (access control lists, a mount without
      // execution, security modules) the fresh mount says what they make of it.
      if (!modesOf(fresh).every((bits, index) => ((live[index]! ^ bits) & (read | execute)) === 0)) {
        const expected = await native.accessAs(lane, this.#oracle.root, path, credentials)
        for (const [index, who] of ['owner', 'group', 'others'].entries()) {
          const bits = (read | execute) & (live[index]! ^ expected[index]!)
          if (bits !== 0) return difference(who, live[index]! & bits, expected[index]! & bits)
        }
      }
      return await this.#compareWrite(path, fresh, live)
    } catch (error) {
      // In a user namespace not every user exists.
      if (isSyscallError(error, 'EINVAL', 'EPERM')) {
        this.unable =
          'permission checks of other users were not compared: the kernel refuses to take their ids here'
        return null
      }
      if (isSyscallError(error, 'ENOENT', 'ENOTDIR', 'ESTALE', 'ELOOP')) return null
      throw error
    }
  }

  /** The oracle is read-only and grants W_OK to nobody, so that bit is compared with the mode. */
  async #compareWrite(path: string, fresh: Stat, live: number[]): Promise<string | null> {
    if (!this.#writable) return null
    const expected = modesOf(fresh).map((bits) => bits & write)
    const at = expected.findIndex((bits, index) => bits !== (live[index]! & write))
    if (at < 0) return null
    const who = ['owner', 'group', 'others'][at]!
    // A mask of an access control list shows as the group's bits: the mode alone does not decide.
    const acl = await this.#hasAcl(path)
    if (acl) return null
    // Denied although the mode allows it: immutable files and security modules do that too, and they do it to all.
    const all = live.every((bits) => (bits & write) === 0) && expected.some((bits) => bits !== 0)
    if (all && !(await this.#layerGrants(path, fresh, at))) return null
    return difference(who, live[at]! & write, expected[at]!)
  }

  async #hasAcl(path: string): Promise<boolean> {
    const { lane } = this.#overlay
    try {
      const names = await native.listXattrs(lane, this.#oracle.root, path)
      return names.includes('system.posix_acl_access')
    } catch (error) {
      if (isSyscallError(error, 'EOPNOTSUPP', 'ENOENT', 'ESTALE', 'ELOOP')) return false
      throw error
    }
  }

  /** Whether the layer's own file system would let them write. */
  async #layerGrants(path: string, fresh: Stat, who: number): Promise<boolean> {
    const credential = credentialsFor(fresh)[who]!
    for (const layer of this.#overlay.layers) {
      if (layer.role !== 'lower') continue
      const stat = await statInLayer(this.#overlay, layer.root, path)
      if (stat === null || isDirectory(stat) !== isDirectory(fresh)) continue
      const [bits] = await native.accessAs(this.#overlay.lane, layer.root, path, [credential])
      return (bits! & write) !== 0
    }
    return false
  }
}

function isWritable({ description }: OpenOverlay): boolean {
  return (
    description.upper !== null &&
    description.mounts.every((mount) => mount.mountOptions.split(',').includes('rw'))
  )
}

/** Of owner, group and others, as {@link credentialsFor}. */
function modesOf({ mode }: Stat): number[] {
  return [mode >> 6, mode >> 3, mode]
}

/** The owner in a strange group, a stranger in the group, a stranger. Uids that the file does not name. */
function credentialsFor(stat: Stat): { uid: number; gid: number }[] {
  const uid = stat.uid === 65533 ? 65532 : 65533
  const gid = stat.gid === 65533 ? 65532 : 65533
  return [
    { uid: stat.uid, gid },
    { uid, gid: stat.gid },
    { uid, gid },
  ]
}

function difference(who: string, live: number, fresh: number): string {
  return `${who}: live grants ${letters(live)}, fresh ${letters(fresh)}`
}

function letters(bits: number): string {
  const text = `${bits & read ? 'r' : ''}${bits & write ? 'w' : ''}${bits & execute ? 'x' : ''}`
  return text === '' ? 'nothing' : text
}
