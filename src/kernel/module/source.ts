// SPDX-License-Identifier: MIT

import { readFile } from 'node:fs/promises'
import { LowerwatchError } from '../../errors.js'
import type { Archive } from '../apt.js'
import { fetchPart, pointReleases } from '../fetch.js'
import type { Patch } from '../series.js'
import { openTree } from '../tree.js'
import { isCode } from '../workspace.js'
import { pathOf } from './checks.js'
import type { Headers } from './headers.js'

/** What a module is built from. */
export interface ModuleSource {
  tree: string
  /** For example `6.12.95`. */
  release: string
}

/** What overlayfs includes of fs/ itself is found when its sources are read. */
const folders = ['fs/overlayfs', 'fs/internal.h']

/**
 * The sources that a kernel was made from: a tree, which has to be of its point release, or the package of the distribution
 * that has the version of the headers.
 *
 * @throws LowerwatchError USAGE, KERNEL
 */
export async function moduleSource(
  headers: Headers,
  patches: Patch[],
  options: {
    tree?: string | undefined
    archive: () => Promise<Archive>
    note: (line: string) => void
    root: string
  },
): Promise<ModuleSource> {
  const point = pointOfHeaders(headers)
  const tree = options.tree ?? (await fromPackage(headers, point, patches, options))
  const { release } = await openTree(tree)
  if (release !== point)
    throw new LowerwatchError('USAGE', `${tree} is Linux ${release}, the kernel is ${point}`, {
      hint: 'overlayfs has to be of the same point release',
    })
  return { tree, release }
}

/**
 * The release of a kernel, as `uname -r` says it: it becomes a part of paths, and of the name of a package.
 *
 * @throws LowerwatchError USAGE
 */
export function checkRelease(release: string): string {
  if (!/^\d+\.\d+[A-Za-z0-9.+~_-]*$/.test(release) || release.includes('..'))
    throw new LowerwatchError('USAGE', `${JSON.stringify(release)} is no release of a kernel`, {
      hint: 'a release is like 6.12.95-amd64',
    })
  return release
}

/** The point release in the name of a kernel: 6.12.95 in `6.12.95+deb12-amd64`. */
export function pointOf(release: string): string {
  const point = /^\d+\.\d+(\.\d+)?(?=$|[+-])/.exec(checkRelease(release))?.[0]
  if (point === undefined) throw new LowerwatchError('USAGE', `${release} is no release of a kernel`)
  return point
}

/** The point release of the kernel that headers are for. */
export function pointOfHeaders({ packageVersion, release }: Headers): string {
  // Debian 12 calls every kernel of its 6.1 `6.1.0-…`, with a number that goes up: the package knows better.
  return pointOf(packageVersion === '' ? release : packageVersion)
}

export const versionOf = (release: string) => pointOf(release).split('.').slice(0, 2).join('.')

async function fromPackage(
  headers: Headers,
  point: string,
  patches: Patch[],
  { archive, note, root }: { archive: () => Promise<Archive>; note: (line: string) => void; root: string },
): Promise<string> {
  const version = versionOf(point)
  const paths = [...folders, ...patches.flatMap((patch) => patch.diffs.map(pathOf))]
  if (headers.packageVersion !== '')
    return fetchPart(archive, version, headers.packageVersion, paths, note, root)
  // Without a package version the point release has to do, if it is there once.
  const found = (await pointReleases(await archive(), version)).filter(({ release }) => release === point)
  if (found.length !== 1)
    throw new LowerwatchError('KERNEL', `which source Linux ${headers.release} is made from is not known`, {
      hint: `give it with --tree; the mirror has ${found.length} packages of Linux ${point}`,
    })
  return fetchPart(archive, version, found[0]!.packageVersion, paths, note, root)
}

/** Files next to overlayfs that its sources include: `../internal.h`. */
export async function includedBeside(
  sources: Map<string, string>,
  tree: string,
): Promise<Map<string, string>> {
  const found = new Map<string, string>()
  const queue = [...sources]
  for (let next = queue.pop(); next; next = queue.pop()) {
    const [path, text] = next
    for (const [, name] of text.matchAll(/^\s*#\s*include\s+"([^"]+)"/gm)) {
      const target = new URL(name!, `file:///${path}`).pathname.slice(1)
      if (!target.startsWith('fs/') || sources.has(target) || found.has(target)) continue
      try {
        found.set(target, await readFile(`${tree}/${target}`, 'latin1'))
      } catch (error) {
        if (!isCode(error, 'ENOENT')) throw error
        throw new LowerwatchError('KERNEL', `${path} includes ${target}, which the source does not have`)
      }
      queue.push([target, found.get(target)!])
    }
  }
  return found
}
