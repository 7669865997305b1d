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
    return this.open(path, O_RDONLY | O_NONBLOCK, async (file) => {
      const opened = await this.statOf(file)
      if (!isSame(before, opened)) throw changed(path)
      const content = readFileSync(file.fd, 'latin1')
      if (!isSame(opened, await this.statOf(file))) throw changed(path)
      return { content, stat: opened }
    })
  }

  /** Makes a file that is not there yet. Its owner is kept as far as this process may give files away. */
  async create(path: ByteString, content: ByteString, { uid, gid, mode }: Owner): Promise<void> {
    await this.open(path, O_WRONLY | O_CREAT | O_EXCL, async ({ fd }) => {
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

  /** The directories that a path goes through and that are not there, from the top. */
  async missingParents(path: ByteString): Promise<ByteString[]> {
    const missing: ByteString[] = []
    for (let end = path.indexOf('/'); end >= 0; end = path.indexOf('/', end + 1))
      if ((await this.stat(path.slice(0, end))) === null) missing.push(path.slice(0, end))
    return missing
  }

  async makeDirectory(path: ByteString): Promise<void> {
    const { uid, gid } = await this.ownerFor(path)
    await native.makeDirectory(this.lane, this.top, path, 0o755)
    await this.open(path, O_RDONLY | O_DIRECTORY, async ({ fd }) => give(fd, uid, gid))
  }

  /** Who a new path belongs to: whoever has the directory that it is in. */
  async ownerFor(path: ByteString): Promise<Pick<Owner, 'uid' | 'gid'>> {
    const directory = await this.stat(parentOf(path))
    if (directory === null) throw changed(path)
    return directory
  }

  private async statOf(file: Handle): Promise<Stat> {
    return (await native.statAt(this.lane, file, ''))!
  }

  private async open<T>(path: ByteString, flags: number, work: (file: Handle) => Promise<T>): Promise<T> {
    const handle = await native
      .openBeneath(this.lane, this.top, path, flags, flags & O_CREAT ? 0o600 : 0)
      .catch((error) => refuseLink(path, error))
    try {
      return await work(handle)
    } finally {
      handle.close()
    }
  }

  /** The last name of a path, reached through a descriptor of its directory. */
  private async inParent(path: ByteString, work: (name: Buffer) => Promise<void>): Promise<void> {
    await this.open(parentOf(path), O_PATH | O_DIRECTORY, ({ fd }) =>
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
    // Only root can give files away, and in a user namespace not to everybody; who shares a tree owns what he writes.
    ignore(error, 'EPERM', 'EINVAL')
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
