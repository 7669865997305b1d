// SPDX-License-Identifier: MIT

/**
 * The typed boundary to the addon: the only file that knows its shape. All syscalls live behind it.
 *
 * Rules that hold for every function here:
 * - Paths and names are byte strings (see bytes.ts), relative paths never start with '/', '' is the root itself.
 * - A function that takes a {@link Lane} runs its system calls on that lane's thread and returns a promise.
 *   Functions without a lane never block (they are marked so).
 * - A failed call rejects (or throws) a `SyscallError`: `code` (errno name), `errno`, `syscall`.
 * - Relative paths resolve with openat2(2) RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS |
 *   RESOLVE_NO_XDEV: nothing a stranger writes below a root can lead out of it.
 */
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { ByteString } from './bytes.js'

/** An open file descriptor owned by the addon (close-on-exec). Closed by `close()`, at latest by the collector. */
export interface Handle {
  /** The descriptor's number, -1 once closed. */
  readonly fd: number
  close(): void
}

/** One thread that runs blocking calls in order. A hung file system stops its own lane and no other. */
export interface Lane {
  /** Refuses new work, rejects what is queued with ECANCELED, ends the thread when the running call returns. */
  close(): void
}

export interface LaneConstructor {
  /** `bulk`: calls take milliseconds and nobody waits for them; no short time slice (see requestShortSlice). */
  new (name: string, options?: { bulk?: boolean }): Lane
}

/** statx(2), STATX_BASIC_STATS | STATX_MNT_ID | STATX_BTIME; never follows a link at the end of the path. */
export interface Stat {
  /** File type and mode bits as in st_mode. */
  mode: number
  /** Inode number. A bigint, because cgroup2 on some kernels uses all 64 bits. */
  ino: bigint
  devMajor: number
  devMinor: number
  rdevMajor: number
  rdevMinor: number
  nlink: number
  uid: number
  gid: number
  sizeBytes: bigint
  mtimeNs: bigint
  ctimeNs: bigint
  mountId: bigint
}

export interface DirectoryEntry {
  name: ByteString
  ino: bigint
  /** DT_* of getdents64(2). */
  type: number
}

/** name_to_handle_at(2): identity of an inode on its file system. */
export interface FileHandle {
  type: number
  /** The handle's bytes, as a byte string so that it can be a map key. */
  bytes: ByteString
}

// ---------------------------------------------------------------------------------------------- files

export interface Files {
  /**
   * open_tree(2) on an absolute path (links are followed: it comes from the administrator or the kernel).
   * `clone`: a detached private mount of just that directory, so that nothing is pinned that umount(8) would
   * miss and no mount below is seen. Without: O_PATH descriptor. Linux 5.2.
   */
  openTree(lane: Lane, path: ByteString, options: { clone: boolean }): Promise<Handle>
  /** openat2(2) beneath `root`. `flags` are O_* bits; O_CLOEXEC and O_NOFOLLOW are added. Linux 5.6. */
  openBeneath(lane: Lane, root: Handle, path: ByteString, flags: number, mode?: number): Promise<Handle>
  /** lstat; null when the path does not exist (ENOENT or ENOTDIR). */
  statAt(lane: Lane, root: Handle, path: ByteString): Promise<Stat | null>
  /** lstat of many names of one directory; an entry is null (does not exist) or a negative errno on other failures. */
  statNames(
    lane: Lane,
    root: Handle,
    directory: ByteString,
    names: ByteString[],
  ): Promise<(Stat | number | null)[]>
  /** Every entry but '.' and '..'. A fresh open file description is read from its start to its end. */
  readDirectory(lane: Lane, root: Handle, directory: ByteString): Promise<DirectoryEntry[]>
  readLink(lane: Lane, root: Handle, path: ByteString): Promise<ByteString>
  /** Extended attribute of a file or directory (not following a link); null when it is not set. */
  getXattr(lane: Lane, root: Handle, path: ByteString, name: string): Promise<Buffer | null>
  listXattrs(lane: Lane, root: Handle, path: ByteString): Promise<ByteString[]>
  /** name_to_handle_at(2); `fid`: one to compare only (AT_HANDLE_FID, 6.5), which overlayfs answers without nfs_export from 6.6; an older kernel gives the other kind. Null: not supported. */
  handleAt(
    lane: Lane,
    root: Handle,
    path: ByteString,
    options?: { fid?: boolean },
  ): Promise<FileHandle | null>
  /** open_by_handle_at(2) on the mount of `root` with O_PATH; null for ESTALE (the inode is gone). Needs CAP_DAC_READ_SEARCH. */
  openByHandle(lane: Lane, root: Handle, handle: FileHandle): Promise<Handle | null>
  /**
   * faccessat2(2) with AT_EACCESS as other users (setfsuid/setfsgid of the lane's thread, no supplementary
   * groups, no capabilities): per credential the R_OK|W_OK|X_OK bits granted. Shows the mode and owner that
   * overlayfs *checks*, which it copied at lookup, where stat shows the real inode's.
   */
  accessAs(
    lane: Lane,
    root: Handle,
    path: ByteString,
    credentials: { uid: number; gid: number }[],
  ): Promise<number[]>
  makeDirectory(lane: Lane, root: Handle, path: ByteString, mode: number): Promise<void>
  /** renameat2(2), both paths beneath `root`. `noReplace`: RENAME_NOREPLACE. */
  rename(
    lane: Lane,
    root: Handle,
    from: ByteString,
    to: ByteString,
    options: { noReplace: boolean },
  ): Promise<void>
  /** Removes a tree beneath `root` without following links or crossing mounts; returns the paths it removed (or would). */
  removeTree(lane: Lane, root: Handle, path: ByteString, options: { dryRun: boolean }): Promise<ByteString[]>
  /** flock(2) LOCK_EX|LOCK_NB on a file it creates (0600, O_NOFOLLOW); null when another process has it. */
  lockFile(lane: Lane, path: ByteString): Promise<Handle | null>
}

// ---------------------------------------------------------------------------------------------- mounts

export interface Mount {
  /** Mount id as in /proc/self/mountinfo. */
  id: number
  parentId: number
  /** The 64-bit id that is never used again (6.8), or null. */
  uniqueId: bigint | null
  devMajor: number
  devMinor: number
  /** Root of the mount within its file system. */
  root: ByteString
  mountPoint: ByteString
  fsType: string
  /** Per-mount options, for example `rw,nosuid,relatime`. */
  mountOptions: string
  /** Superblock options exactly as the kernel prints them: still escaped (`\040`, `\134`), see overlay/options.ts. */
  superOptions: ByteString
  /** `shared:N`, `master:N`, `propagate_from:N`, `unbindable`; empty for a private mount. */
  propagation: string[]
}

export interface FreshOverlay {
  /** Lower layers, uppermost first: absolute paths. */
  lower: ByteString[]
  dataOnly: ByteString[]
  /** What these paths lead to, in this order: ESTALE when one leads elsewhere. */
  expected?: Handle[]
  /** Null for an overlay without an upper, which is read-only. */
  upper: { upper: ByteString; work: ByteString } | null
  /** Other options, for example `['metacopy', 'on']` or `['userxattr', null]`. */
  options: [name: string, value: string | null][]
  /** Per-mount attributes as for fsmount(2): MOUNT_ATTR_* bits. */
  mountAttributes: number
  readOnly: boolean
  /** Give the layers as one `lowerdir` string, which is what kernels without `lowerdir+` (before 6.8) get. */
  oneString?: boolean
}

export interface Mounts {
  /**
   * All mounts of the own mount namespace, parents before children. statmount(2)/listmount(2) where they tell
   * everything (6.15), else /proc/self/mountinfo; `source: 'mountinfo'` asks for the latter. Both give the same
   * answer, but mountinfo has no `uniqueId`.
   */
  listMounts(
    lane: Lane,
    options?: { source?: 'mountinfo' },
  ): Promise<{ source: 'statmount' | 'mountinfo'; mounts: Mount[] }>
  /** A new overlay superblock, as a detached mount: fsopen(2), fsconfig(2), fsmount(2). */
  freshOverlay(lane: Lane, overlay: FreshOverlay): Promise<Handle>
  /**
   * fspick(2) and FSCONFIG_CMD_RECONFIGURE, without changing an option that `options` does not name: shrinks the dentry
   * caches of these superblocks, one right after the other. `readOnly` must say whether the overlay has no upper (else
   * the kernel answers EROFS). Returns nanoseconds spent.
   */
  reconfigure(
    lane: Lane,
    overlays: { overlay: Handle; readOnly: boolean; options?: [name: string, value: string][] }[],
  ): Promise<number>
  /**
   * OVL_IOC_INVALIDATE (kernel-patches/) on directories of an overlay: what is cached of them is verified before it is
   * used again. `subtree`: with everything below. Directories that are gone are left out.
   */
  invalidate(
    lane: Lane,
    overlay: Handle,
    directories: ByteString[],
    options: { subtree: boolean },
  ): Promise<void>
  /** move_mount(2) of a detached mount on `path`; `beneath`: MOVE_MOUNT_BENEATH (6.5), below what is mounted there. */
  attachMount(lane: Lane, mount: Handle, path: ByteString, options: { beneath: boolean }): Promise<void>
  /** umount2(2) UMOUNT_NOFOLLOW | MNT_DETACH of the topmost mount at `path`. */
  detachMount(lane: Lane, path: ByteString): Promise<void>
  /** Writes 2 to /proc/sys/vm/drop_caches. */
  dropCaches(lane: Lane): Promise<void>
}

/** Tells that the mount table of the own namespace changed: FAN_MNT_ATTACH|FAN_MNT_DETACH (6.15), else poll(2) on mountinfo. */
export interface MountWatch {
  readonly source: 'fanotify' | 'poll'
  /** Why `source` is not the better one; empty when it is. */
  readonly reason: string
  close(): void
}

export interface MountWatchConstructor {
  /**
   * `onChange` is called on the main thread, once for any number of changes since the last call. Armed when the
   * constructor returns; keeps no process alive. `poll` asks for poll(2) where fanotify would do.
   */
  new (onChange: () => void, options?: { poll?: boolean }): MountWatch
}

// ---------------------------------------------------------------------------------------------- coherence

/** What overlayfs has cached for one name; see {@link Coherence.probeCached}. */
export const Cached = {
  /** Nothing cached on the way or at the end (EAGAIN). Where a layer has d_revalidate: "could not tell". */
  none: 0,
  /** A cached ENOENT. */
  negative: 1,
  /** A cached inode. */
  positive: 2,
  /** The cached answer is an error other than ENOENT, for example ESTALE of a vanished kernfs directory. */
  stale: 3,
} as const
export type Cached = (typeof Cached)[keyof typeof Cached]

export interface ExamineRequest {
  /** Directory in the overlay. */
  directory: ByteString
  names: ByteString[]
}

export interface NameFacts {
  /** Index in the request's `names`. */
  index: number
  cached: Cached
  /** statx through the overlay's cached dentry, when positive. */
  live: Stat | null
  /** Per layer in the order of `layers`: what that layer has by this name now (null: nothing). */
  layers: (Stat | null)[]
}

export interface DirectoryFacts {
  /** What the overlay has cached for the directory itself. Names are empty unless it is `positive`. */
  cached: Cached
  /** Only the names that are cached: a name that is not mentioned is not cached, and cannot be stale. */
  names: NameFacts[]
}

export interface Coherence {
  /**
   * openat2(O_PATH|O_NOFOLLOW, RESOLVE_CACHED) for each name of a directory of the overlay: what the dentry
   * cache holds, without filling it. Never blocks; about 1 microsecond a name. Linux 5.12.
   */
  probeCached(overlay: Handle, directory: ByteString, names: ByteString[]): Uint8Array
  /**
   * Facts for the coherence stage. Per directory: takes the directory's lock once (open, lseek: a barrier for
   * lookups in flight), then probes each name, and stats cached ones in the overlay and in every layer.
   * `revalidates`: a layer has d_revalidate (kernfs), so "could not tell" is answered by a real lookup.
   * `lookUpDirectories`: so are the directories alone, where the overlay itself has it (`lower_changes`).
   */
  examine(
    lane: Lane,
    overlay: Handle,
    layers: Handle[],
    requests: ExamineRequest[],
    options: { revalidates: boolean; lookUpDirectories?: boolean },
  ): Promise<DirectoryFacts[]>
  /**
   * Opens the directory through the overlay and lists it once. Per name: 0 when it is not listed, else
   * 0x80 | its DT_* type.
   */
  listingHas(lane: Lane, overlay: Handle, directory: ByteString, names: ByteString[]): Promise<Uint8Array>
  /**
   * Creates and unlinks `.lowerwatch-nudge.<pid>.<n>` in a directory through the overlay (O_EXCL, 0600), which
   * makes overlayfs drop its shared listing of it; restores the directory's mtime.
   */
  nudge(lane: Lane, overlay: Handle, directory: ByteString): Promise<void>
}

// ---------------------------------------------------------------------------------------------- watch

/** Bits of {@link Change.kind}. They may be merged: look at the state, never replay. */
export const Kind = {
  create: 0x01,
  delete: 0x02,
  movedFrom: 0x04,
  movedTo: 0x08,
  attributes: 0x10,
  modify: 0x20,
  /** The name is (or was) a directory. */
  directory: 0x40,
  /** Anything in `directory` may have changed; `name` is ''. */
  directoryDirty: 0x100,
  /** Anything in the layer may have changed; `directory` and `name` are ''. */
  layerDirty: 0x200,
  /** The event queue overflowed (comes with layerDirty). */
  overflow: 0x400,
  /** The layer's root was removed or its file system unmounted. */
  layerGone: 0x800,
} as const

/** How a layer is watched. */
export type Scope = 'filesystem' | 'inode' | 'inotify'

export interface Change {
  /** As given to {@link Watcher.addLayer}. */
  layer: number
  /** Path of the directory in the layer. */
  directory: ByteString
  name: ByteString
  /** {@link Kind} bits. */
  kind: number
}

/** A directory that was renamed within its layer. Linux 5.17 (FAN_RENAME), or scope inotify. */
export interface DirectoryRename {
  /** As given to {@link Watcher.addLayer}. */
  layer: number
  /** Paths in the layer. */
  from: ByteString
  to: ByteString
}
export interface ChangeBatch {
  changes: Change[]
  /** Each not later than the changes of its two names; 1,024 at most, more are left out. */
  renames: DirectoryRename[]
  /** Refreshes that the reader thread made by itself, see {@link LayerOptions.reflex}. */
  refreshed: { layer: number; spentNs: number; latencyNs: number }[]
  /** CLOCK_MONOTONIC nanoseconds at which the first event of the batch was read; compare with process.hrtime.bigint(). */
  readAtNs: bigint
}

export interface LayerOptions {
  /** Scopes to try, best first. The first that the kernel takes is used. */
  scopes: Scope[]
  /** Also report MODIFY for files with these names (cgroup.subtree_control); [] on ordinary file systems. */
  modifyNames: ByteString[]
  /**
   * Lets the reader thread refresh the overlay at once, before it reports, when something is cached for the name:
   * the first change after quiet is then served without a change of thread. Only where no layer can hang.
   */
  reflex?: { overlay: Handle; upper: Handle | null; share: number }
  /** Bound on the directories that `inode` and `inotify` may watch. */
  maxDirectories: number
}

export interface ArmedLayer {
  scope: Scope
  /** Why each better scope was not taken, for example `filesystem: EOPNOTSUPP`. */
  reasons: string[]
  /** Directories watched one by one (0 for `filesystem`). */
  directories: number
  /** Top directories of what could not be watched (limit reached): these must be looked at again from time to time. */
  unwatched: ByteString[]
  /** Why, naming the sysctl; '' when all is watched. */
  unwatchedReason: string
}

export interface WatcherCounters {
  eventsRead: number
  /** Events whose directory is in no layer. */
  eventsOutside: number
  /** Events of this process, ignored. */
  eventsOwn: number
  overflows: number
  /** Names merged into a directory, directories merged into a layer because a bound was reached. */
  degradedDirectories: number
  degradedLayers: number
  batches: number
  directoriesWatched: number
  cachedHandles: number
  /** CPU time of the reader thread. */
  readerCpuNs: number
}

/** One reader thread with one fanotify group and one inotify instance, for any number of layers. */
export interface Watcher {
  /** Resolves when the watch is armed: every change after that is reported. Then look, not before. */
  addLayer(layer: number, root: Handle, options: LayerOptions): Promise<ArmedLayer>
  removeLayer(layer: number): Promise<void>
  /**
   * Walks `directory` of a layer that is watched directory by directory again, watches what is new there, and
   * reports the names in it as `create`. For changes that raise no event: an overlay whose lower changed.
   * Nothing happens for scope `filesystem`.
   */
  rescan(layer: number, directory: ByteString): Promise<void>
  /** Current state of a layer's watch: directories and unwatched parts change with the tree. */
  layerState(layer: number): ArmedLayer | null
  counters(): WatcherCounters
  /** Resolves when every change made before the call has been handed to `onBatch`. */
  flush(): Promise<void>
  /** Ends the thread and removes every mark before it returns. */
  close(): void
}

export interface WatcherConstructor {
  new (
    onBatch: (batch: ChangeBatch) => void,
    options?: {
      /** Names held while JavaScript is busy before they are merged into their directory. Default 65,536. */
      maxNames?: number
      /** Directories held before they are merged into their layer. Default 8,192. */
      maxDirectories?: number
      /** Directory handles remembered. Default 65,536. */
      maxHandles?: number
    },
  ): Watcher
}

/** Remembers the names (and identity, mode, owner) of directories and says what changed since: for what no event tells. */
export interface Snapshot {
  /**
   * Looks again at `directory` (with everything below when `recursive`) and returns the differences from the
   * last look. The first look at a directory remembers it and returns nothing.
   */
  rescan(lane: Lane, directory: ByteString, options: { recursive: boolean }): Promise<Change[]>
  /** Directories remembered. */
  readonly directories: number
  close(): void
}

export interface SnapshotConstructor {
  /** `attributes`: also remember mode, owner, inode and ctime of every name (one statx each). */
  new (layer: number, root: Handle, options: { attributes: boolean; maxDirectories: number }): Snapshot
}

/** Raw inotify(7) for {@link file://./watch/inotify.ts}: keeps the public shape of the npm package `inotify`. */
export interface RawInotify {
  /** Returns the watch descriptor. Never blocks for long; throws SyscallError. */
  addWatch(path: ByteString, mask: number): number
  removeWatch(watch: number): void
  close(): void
}

export interface RawInotifyConstructor {
  /** `persistent`: keeps the event loop alive until close(); default true. */
  new (
    onEvents: (events: { watch: number; mask: number; cookie: number; name: ByteString }[]) => void,
    persistent?: boolean,
  ): RawInotify
}

// ---------------------------------------------------------------------------------------------- process

/** An open file of a process. Only those whose link is a path: no pipes, sockets, memory files. */
export interface DescriptorFacts {
  number: number
  /** `mnt_id` of proc_pid_fdinfo(5); -1 when it has none. */
  mountId: number
  /** O_* bits with which it was opened. */
  flags: number
  /** As readlink(2) shows it: from the root of its mount namespace, or of its mount when that is detached. */
  link: ByteString
}

/** A file that a process maps. One object for all processes of one call. */
export interface MappedFile {
  devMajor: number
  devMinor: number
  path: ByteString
}

export interface ProcessFacts {
  pid: number
  /** Something could not be read: EACCES, EPERM, or a path of more than a page. What could be is there. */
  unreadable: boolean
  command: ByteString
  /** For example `mnt:[4026531841]`: the same string for the same namespace. */
  mountNamespace: ByteString
  /** As readlink(2) shows it: from the root of the mount namespace. */
  root: ByteString
  cwd: ByteString
  /** Text of proc_pid_mountinfo(5), of the first process of each mount namespace and root; null for the others. */
  mountTable: ByteString | null
  descriptors: DescriptorFacts[]
  /** Each file once, empty without `maps`. */
  mapped: MappedFile[]
}

export interface LinkTarget {
  devMajor: number
  devMinor: number
  directory: boolean
}

export interface Process {
  /** Process ids that /proc lists. */
  processIds(lane: Lane): Promise<number[]>
  /**
   * What these processes have open, in the order of `pids`; without those that are gone. Links are read and not
   * followed, so a file system that hangs stops nobody. `maps`: mapped files too, which take the longest.
   */
  processes(lane: Lane, pids: number[], options: { maps: boolean }): Promise<ProcessFacts[]>
  /**
   * What a link in /proc leads to, by what this machine knows of it: a server that does not answer is not asked. Null
   * when it leads nowhere (any more), or that may not be asked. statx(2), AT_STATX_DONT_SYNC.
   */
  linkTarget(lane: Lane, link: string): Promise<LinkTarget | null>
  /** Sends `state` to $NOTIFY_SOCKET (sd_notify(3)); false when there is none. Never blocks. */
  notifySystemd(state: string): boolean
  /** Names of the capabilities in the effective set, for example `CAP_SYS_ADMIN`. Never blocks. */
  capabilities(): string[]
  /**
   * Keeps only these capabilities (permitted, effective, bounding set where allowed, no_new_privs). Must be called
   * before a lane, watcher or worker exists, because capabilities belong to threads. Never blocks.
   */
  dropCapabilities(keep: string[]): void
  /** Peer of a connected unix socket: SO_PEERCRED. Never blocks. */
  peerCredentials(fd: number): { pid: number; uid: number; gid: number }
  /**
   * Asks for a time slice of 100 microseconds for the calling thread, so that it starts soon after it is woken
   * (Linux 6.12; lanes and watchers do so by themselves). Never blocks.
   */
  requestShortSlice(): void
  /** CLOCK_MONOTONIC in nanoseconds. */
  monotonicNs(): bigint
}

export interface Native extends Files, Mounts, Coherence, Process {
  Lane: LaneConstructor
  MountWatch: MountWatchConstructor
  Watcher: WatcherConstructor
  Snapshot: SnapshotConstructor
  Inotify: RawInotifyConstructor
}

const require = createRequire(import.meta.url)
const projectRoot = join(dirname(fileURLToPath(import.meta.url)), '..')

/** The addon, from prebuilds/ or build/. */
export const native: Native = require('node-gyp-build')(projectRoot)
