// SPDX-License-Identifier: MIT
import type { ByteString } from '../bytes.js'
import type { Handle, Lane } from '../native.js'

/** One overlay superblock as the mount table describes it. Nothing is open. */
export interface OverlayDescription {
  /** `major:minor` of the superblock: its identity. */
  device: string
  /** Every place where it is mounted in this namespace (bind mounts of sub-directories included), oldest first. */
  mounts: OverlayMount[]
  /** Lower layers, uppermost first, decoded from every escape form; as given to mount(2), so perhaps relative. */
  lower: ByteString[]
  /** Data-only layers (`::`, `datadir+`). Their files are reached by redirect only. */
  dataOnly: ByteString[]
  upper: ByteString | null
  /** The second reading of `upper` where the mount table has two (it was given as a descriptor, with a backslash). */
  upperVerbatim?: ByteString | null
  work: ByteString | null
  /** The other superblock options in order, decoded, for example `['redirect_dir', 'on']`, `['userxattr', null]`. */
  options: [name: string, value: string | null][]
}

export interface OverlayMount {
  id: number
  uniqueId: bigint | null
  parentId: number
  mountPoint: ByteString
  /** Root of this mount within the overlay; '/' unless it is a bind mount of a sub-directory. */
  root: ByteString
  mountOptions: string
  propagation: string[]
}

export type LayerRole = 'upper' | 'lower' | 'data'

export interface OpenLayer {
  /** Position in {@link OpenOverlay.layers}. */
  index: number
  role: LayerRole
  path: ByteString
  /** Detached clone of the layer's directory, or an O_PATH descriptor where the kernel refuses to clone. */
  root: Handle
  /** Why `root` is not a clone; '' when it is. */
  cloneReason: string
  /** A younger mount hides the layer's path, so that only `root` leads there. Never so for an ordinary layer. */
  covered?: boolean
  fsType: string
  /** `major:minor` of the layer's file system, as in st_dev of its root. */
  device: string
  /** The file system revalidates its dentries by itself (kernfs, NFS, FUSE): "not cached" can mean "could not tell". */
  revalidates: boolean
  /** The layer lies in another overlay: its device, and the layer's directory in it ('' for its root). */
  nested: { device: string; directory: ByteString } | null
}

/** What a patched overlayfs (kernel-patches/) does for a mount: its option `lower_changes`. */
export type LowerChangesMode = 'off' | 'manual' | 'notify' | 'reval'

/** An overlay with its layers open, and the lane on which its blocking calls run. */
export interface OpenOverlay {
  description: OverlayDescription
  lane: Lane
  /** Detached clone of the overlay's root: no mounts on top of it are seen, and umount(8) is not kept busy. */
  root: Handle
  cloneReason: string
  /** Upper first when there is one, then lowers uppermost first, then data-only layers. */
  layers: OpenLayer[]
  /** Why a path of the lower may appear elsewhere in the overlay, so that names cannot be mapped; '' when they can. */
  unmappable: string
  /** The mode that this program has switched it to; it was `off`. */
  switchedTo?: LowerChangesMode
  close(): void
}

/** How a cached answer is not coherent; see the table of words in the documentation. */
export type StaleKind = 'negative' | 'ghost' | 'replaced' | 'listing' | 'unmerged' | 'attributes'

export interface StaleEntry {
  path: ByteString
  kind: StaleKind
  /** What the live overlay says and what a fresh mount says, one short line. */
  detail: string
  /** It was not compared to the end, and is to be named only while somebody holds it. */
  unsure?: boolean
}

/** A process that pins a dentry of the overlay. */
export interface Holder {
  pid: number
  command: string
  via: 'fd' | 'cwd' | 'root' | 'map'
  /** Descriptor number, for `via: 'fd'`. */
  fd: number | null
  /** Path in the overlay ('' for its root). */
  path: ByteString
  directory: boolean
  /** The path no longer exists by that name ("(deleted)"). */
  deleted: boolean
}
