// SPDX-License-Identifier: MIT

import { constants, fchmodSync, fchownSync, readFileSync, writeFileSync } from 'node:fs'
import { rmdir, unlink } from 'node:fs/promises'
import { resolve } from 'node:path'
import { type ByteString, display, fromText, toBuffer } from '../bytes.js'
import { isSyscallError, LowerwatchError } from '../errors.js'
import { type Handle, type Lane, native, type Stat } from '../native.js'

const { O_CREAT, O_DIRECTORY, O_EXCL, O_NONBLOCK, O_RDONLY, O_WRONLY, S_IFMT, S_IFREG } = constants
/** <fcntl.h>, which Node does not name. */
const O_PATH = 0o10000000

/** Content of a regular file and what the file is; null where there is none. */
export type Found = { content: ByteString; stat: Stat } | null

/** Whose a new file is and what may be done with it. */
export type Owner = Pick<Stat, 'uid' | 'gid' | 'mode'>

/**
 * Files of a tree that others may be able to write to. Every path is opened beneath its top directory and through no link
 * (openat2(2)): nobody can lead root elsewhere, also not while this runs. A link in a path is an error of the path.
 */
export class TreeFiles {
  private constructor(
    private readonly lane: Lane,
    private readonly top: Handle,
  ) {}

  /** Runs `work` on the tree at `root`: text, as typed, and itself followed wherever it leads. */
  static async with<T>(root: string, work: (files: TreeFiles) => Promise<T>): Promise<T> {
    const lane = new native.Lane('tree', { bulk: true })
    try {
      const top = await native.openTree(lane, fromText(resolve(root)), { clone: false })
      try {
        return await work(new TreeFiles(lane, top))
      } finally {
        top.close()
      }
    } finally {
      lane.close()
    }
  }

  /** Null when there is no such path. */
  async stat(path: ByteString): Promise<Stat | null> {
    return await native.statAt(this.lane, this.top, path).catch((error) => refuseLink(path, error))
  }

  async read(path: ByteString): Promise<Found> {
    const before = await this.stat(path)
    if (before === null) return null
    // Anything else may wait for a writer, or do something, when it is opened.
    if ((before.mode & S_IFMT) !== S_IFREG)
      throw new LowerwatchError('KERNEL', `${display(path)} is not a regular file`)
    return this.open(path, O_RDONLY | O_NONBLOCK, async (fd) => {
      const content = readFileSync(fd, 'latin1')
      const stat = await this.stat(path)
      if (stat === null || !isSame(before, stat)) throw changed(path)
      return { content, stat }
    })
  }

  /** Makes a file that is not there yet. Its owner is kept as far as this process may give files away. */
  async create(path: ByteString, content: ByteString, { uid, gid, mode }: Owner): Promise<void> {
    await this.open(path, O_WRONLY | O_CREAT | O_EXCL, async (fd) => {
      writeFileSync(fd, content, 'latin1')
      give(fd, uid, gid)
      // Not the bits with which it would run as its owner.
      fchmodSync(fd, mode & 0o777)
    })
  }

  /** Moves a file to a name that is free. */
  async move(from: ByteString, to: ByteString): Promise<void> {
    try {
      await native.rename(this.lane, this.top, from, to, { noReplace: true })
    } catch (error) {
      if (isSyscallError(error, 'EEXIST')) throw changed(to)
      // A file system that knows no flags of renameat2(2), such as NFS
      if (!isSyscallError(error, 'EINVAL')) refuseLink(to, error)
      if ((await this.stat(to)) !== null) throw changed(to)
      await native.rename(this.lane, this.top, from, to, { noReplace: false })
    }
  }

  async replace(from: ByteString, to: ByteString): Promise<void> {
    await native.rename(this.lane, this.top, from, to, { noReplace: false })
  }

  /** Removes a file, if it is there. */
  async remove(path: ByteString): Promise<void> {
    await this.inParent(path, unlink).catch((error) => ignore(error, 'ENOENT', 'ENOTDIR'))
  }

  /** Removes a directory, if it is there and empty. */
  async removeDirectory(path: ByteString): Promise<void> {
    await this.inParent(path, rmdir).catch((error) => ignore(error, 'ENOENT', 'ENOTDIR', 'ENOTEMPTY'))
  }

  /** Makes the directories that a path goes through, and adds those that it made to `made`. */
  async makeParents(path: ByteString, made: ByteString[]): Promise<void> {
    for (let end = path.indexOf('/'); end >= 0; end = path.indexOf('/', end + 1)) {
      const directory = path.slice(0, end)
      if ((await this.stat(directory)) !== null) continue
      const owner = await this.ownerFor(directory)
      await native.makeDirectory(this.lane, this.top, directory, 0o755)
      made.push(directory)
      await this.open(directory, O_RDONLY | O_DIRECTORY, async (fd) => give(fd, owner.uid, owner.gid))
    }
  }

  /** Who a new path belongs to: whoever has the directory that it is in. */
  async ownerFor(path: ByteString): Promise<Pick<Owner, 'uid' | 'gid'>> {
    const directory = await this.stat(parentOf(path))
    if (directory === null) throw changed(path)
    return directory
  }

  private async open<T>(path: ByteString, flags: number, work: (fd: number) => Promise<T>): Promise<T> {
    const handle = await native
      .openBeneath(this.lane, this.top, path, flags, flags & O_CREAT ? 0o600 : 0)
      .catch((error) => refuseLink(path, error))
    try {
      return await work(handle.fd)
    } finally {
      handle.close()
    }
  }

  /** The last name of a path, reached through a descriptor of its directory. */
  private async inParent(path: ByteString, work: (name: Buffer) => Promise<void>): Promise<void> {
    await this.open(parentOf(path), O_PATH | O_DIRECTORY, (fd) =>
      work(
        Buffer.concat([Buffer.from(`/proc/self/fd/${fd}/`), toBuffer(path.slice(path.lastIndexOf('/') + 1))]),
      ),
    )
  }
}

/** True when nobody wrote to the file, or put another one in its place. */
export function isSame(a: Stat, b: Stat): boolean {
  return (
    a.ino === b.ino &&
    a.devMajor === b.devMajor &&
    a.devMinor === b.devMinor &&
    a.sizeBytes === b.sizeBytes &&
    a.mtimeNs === b.mtimeNs
  )
}

export function changed(path: ByteString): LowerwatchError {
  return new LowerwatchError('KERNEL', `${display(path)} was changed by somebody else meanwhile`)
}

function parentOf(path: ByteString): ByteString {
  return path.includes('/') ? path.slice(0, path.lastIndexOf('/')) : ''
}

function give(fd: number, uid: number, gid: number): void {
  try {
    fchownSync(fd, uid, gid)
  } catch (error) {
    // Only root can give files away; somebody who shares the tree with its owner owns what he writes.
    ignore(error, 'EPERM')
  }
}

function ignore(error: unknown, ...codes: string[]): void {
  if (!isSyscallError(error, ...codes)) throw error
}

function refuseLink(path: ByteString, error: unknown): never {
  if (!isSyscallError(error, 'ELOOP', 'EXDEV')) throw error
  throw new LowerwatchError('KERNEL', `${display(path)} is a link, or behind a link or a mount`, {
    cause: error,
  })
}
