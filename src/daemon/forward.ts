// SPDX-License-Identifier: MIT
import { type ByteString, join } from '../bytes.js'
import { type Change, Kind } from '../native.js'
import type { LowerChanges } from '../watch/changes.js'

/**
 * Changes of an overlay, as changes of a layer that lies in it. No event is raised in an overlay when its lower
 * changes, so that an overlay on an overlay hears of it only this way.
 *
 * @param root - The layer's directory within the inner overlay, '' for its root
 */
export function forwardedChanges(changes: LowerChanges, root: ByteString): Change[] {
  const list: Change[] = []
  const everything = { layer: 0, directory: '', name: '', kind: Kind.layerDirty }
  if (changes.dirtyReason !== '' || changes.layerGone) return [everything]
  for (const directory of changes.dirtyDirectories) {
    const inside = below(directory, root)
    if (inside !== null) list.push({ layer: 0, directory: inside, name: '', kind: Kind.directoryDirty })
    else if (below(root, directory) !== null) return [everything]
  }
  for (const [directory, names] of changes.directories) {
    const inside = below(directory, root)
    for (const [name, kind] of names) {
      if (inside !== null) list.push({ layer: 0, directory: inside, name, kind })
      else if (below(root, join(directory, name)) !== null) return [everything]
    }
  }
  return list
}

/** `path` relative to `root`, or null when it is not at or below it. */
function below(path: ByteString, root: ByteString): ByteString | null {
  if (root === '') return path
  if (path === root) return ''
  return path.startsWith(`${root}/`) ? path.slice(root.length + 1) : null
}
