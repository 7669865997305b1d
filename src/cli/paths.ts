// SPDX-License-Identifier: MIT
import { resolve } from 'node:path'
import { type ByteString, display } from '../bytes.js'
import { LowerwatchError } from '../errors.js'
import type { OverlayDescription } from '../overlay/types.js'

/**
 * Paths that a person gave for an overlay, relative to its root: absolute ones must lie below one of its mount
 * points, relative ones are taken from the overlay's root.
 *
 * @throws LowerwatchError USAGE for a path outside
 */
export function relativePaths(description: OverlayDescription, paths: ByteString[]): ByteString[] {
  return paths.map((path) => {
    if (!path.startsWith('/')) return resolve('/', path).slice(1)
    const absolute = resolve(path)
    for (const { mountPoint, root } of description.mounts) {
      if (root !== '/') continue
      if (absolute === mountPoint) return ''
      const prefix = mountPoint === '/' ? '/' : `${mountPoint}/`
      if (absolute.startsWith(prefix)) return absolute.slice(prefix.length)
    }
    throw new LowerwatchError('USAGE', `${display(absolute)} does not lie in the overlay`)
  })
}
