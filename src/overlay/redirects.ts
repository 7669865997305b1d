// SPDX-License-Identifier: MIT
import { readFileSync } from 'node:fs'
import { type ByteString, display, join } from '../bytes.js'
import { isSyscallError } from '../errors.js'
import { type Handle, type Lane, native } from '../native.js'
import type { OpenOverlay, OverlayDescription } from './types.js'

const DT_UNKNOWN = 0
const DT_DIR = 4
const S_IFMT = 0o170000
const S_IFDIR = 0o040000

type RedirectMode = 'on' | 'follow' | 'nofollow'

/** Why a path of a lower layer may appear elsewhere in the overlay, as far as its options tell; '' if they do not. */
export function unmappableByOptions(description: OverlayDescription): string {
  if (description.dataOnly.length > 0) return 'data-only layers'
  if ((optionOf(description, 'metacopy') ?? defaultOf('metacopy')) === 'on') return 'metacopy=on'
  return redirectMode(description) === 'on' ? 'redirect_dir=on' : ''
}

/**
 * Looks for directories that were renamed in the overlay before (with redirect_dir=on): where redirects are
 * followed, which is the default, they show a lower directory under another name. Only the last lower layer can
 * have none. Slow on large trees (two calls per directory), on a thread of its own.
 * Returns the reason why names cannot be mapped, or '' when all was looked at and there is none.
 */
export async function scanForRedirects(
  overlay: OpenOverlay,
  options: { maxDirectories: number },
): Promise<string> {
  const { description } = overlay
  if (redirectMode(description) === 'nofollow') return ''
  const userXattr = description.options.some(([name]) => name === 'userxattr')
  const attribute = `${userXattr ? 'user' : 'trusted'}.overlay.redirect`
  const lowest = overlay.layers.findLastIndex(({ role }) => role === 'lower')
  const lane = new native.Lane('redirects')
  try {
    let left = options.maxDirectories
    for (const layer of overlay.layers.slice(0, lowest)) {
      const found = await scanLayer(lane, layer.root, attribute, left)
      if (found.redirect !== null) return `${display(join(layer.path, found.redirect))} has a redirect`
      if (found.unread !== null)
        return `${display(join(layer.path, found.unread))} cannot be searched for redirects`
      left -= found.directories
      if (left <= 0) return `more than ${options.maxDirectories} directories to search for redirects`
    }
    return ''
  } finally {
    lane.close()
  }
}

interface LayerScan {
  /** The first directory that has one. */
  redirect: ByteString | null
  /** A directory that this process may not read. */
  unread: ByteString | null
  directories: number
}

async function scanLayer(lane: Lane, root: Handle, attribute: string, limit: number): Promise<LayerScan> {
  const scan: LayerScan = { redirect: null, unread: null, directories: 0 }
  const open: ByteString[] = ['']
  while (open.length > 0 && scan.directories < limit) {
    const directory = open.pop()!
    scan.directories++
    try {
      if (directory !== '' && (await native.getXattr(lane, root, directory, attribute)) !== null) {
        return { ...scan, redirect: directory }
      }
      open.push(...(await subdirectories(lane, root, directory)))
    } catch (error) {
      if (isSyscallError(error, 'EOPNOTSUPP')) return scan
      if (isSyscallError(error, 'EACCES', 'EPERM')) scan.unread ??= directory
      // Gone, replaced by something else or another mount since it was listed.
      else if (!isSyscallError(error, 'ENOENT', 'ENOTDIR', 'ELOOP', 'EXDEV', 'ESTALE')) throw error
    }
  }
  return open.length > 0 ? { ...scan, directories: limit } : scan
}

async function subdirectories(lane: Lane, root: Handle, directory: ByteString): Promise<ByteString[]> {
  const paths: ByteString[] = []
  for (const { name, type } of await native.readDirectory(lane, root, directory)) {
    const path = join(directory, name)
    if (type === DT_DIR) {
      paths.push(path)
    } else if (type === DT_UNKNOWN) {
      const stat = await native.statAt(lane, root, path)
      if (stat !== null && (stat.mode & S_IFMT) === S_IFDIR) paths.push(path)
    }
  }
  return paths
}

/** The option is only printed where it differs from the module's default of this moment. */
function redirectMode(description: OverlayDescription): RedirectMode {
  const printed = optionOf(description, 'redirect_dir')
  if (printed === 'nofollow') return 'nofollow'
  const mode =
    printed === 'on' || (printed === undefined && defaultOf('redirect_dir') === 'on') ? 'on' : 'follow'
  if (printed === undefined && mode === 'follow' && defaultOf('redirect_always_follow') === 'off')
    return 'nofollow'
  // Without an upper nothing is redirected any more; the kernel prints "on" for following (ovl_fs_params_verify()).
  return mode === 'on' && description.upper === null ? 'follow' : mode
}

function optionOf(description: OverlayDescription, name: string): string | null | undefined {
  return description.options.find(([option]) => option === name)?.[1]
}

function defaultOf(parameter: string): 'on' | 'off' {
  try {
    return readFileSync(`/sys/module/overlay/parameters/${parameter}`, 'latin1').startsWith('Y')
      ? 'on'
      : 'off'
  } catch {
    // No sysfs here: the defaults of the kernel's own configuration.
    return parameter === 'redirect_always_follow' ? 'on' : 'off'
  }
}
