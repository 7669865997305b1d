// SPDX-License-Identifier: MIT

import { readdir, readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { LowerwatchError } from '../errors.js'
import { compareDebian } from './apt.js'
import { type FileDiff, parseDiff } from './diff.js'
import { isCode } from './workspace.js'

/** The series of the project. `all` means both, kernfs first: overlayfs makes use of it. */
export const seriesNames = ['kernfs', 'overlayfs'] as const
export type SeriesName = (typeof seriesNames)[number]

/** One mailbox patch. */
export interface Patch {
  /** File name in the series, for example `0001-kernfs-….patch`. */
  name: string
  series: SeriesName
  /** The subject without its [PATCH …] tag. */
  subject: string
  /** What the patch does and why, in paragraphs, without the trailers. */
  message: string
  /** DEP-3: whether it was sent, and whether and where it was accepted. */
  forwarded: string
  appliedUpstream: string
  diffs: FileDiff[]
  /** The file as it is, for content hashes. */
  text: string
}

/**
 * A folder of patches: a series of a version, or what only the tests of that version need. A series that has to be another
 * one for older point releases has a folder for each, `overlayfs` and `overlayfs-*`.
 */
export interface SeriesFolder {
  version: string
  series: SeriesName | 'test-only'
  /** Below the directory of all patches. */
  folder: string
  /** The point release that every patch fits without offset, from the first line of the `series` file. */
  base: string
  patches: Patch[]
}

/** Where the patches of this installation are. */
export const patchesDirectory = fileURLToPath(new URL('../../kernel-patches', import.meta.url))

/** Kernel versions (major.minor) that have at least one series, oldest first. */
export async function versions(directory = patchesDirectory): Promise<string[]> {
  const names = await readdir(directory)
  return names.filter((name) => /^\d+\.\d+$/.test(name)).sort(compareVersions)
}

export function compareVersions(a: string, b: string): number {
  const [aMajor = 0, aMinor = 0] = a.split('.').map(Number)
  const [bMajor = 0, bMinor = 0] = b.split('.').map(Number)
  return aMajor - bMajor || aMinor - bMinor
}

/** major.minor of a release: `6.12` for `6.12.95+deb12-amd64`. */
export const versionOfRelease = (release: string) => /^\d+\.\d+/.exec(release)?.[0] ?? release

/**
 * The patches of one series in order, of the folder for a point release; none when its version does not have it.
 *
 * @param release for example `6.12.95`, with whatever a tree or a kernel adds to it
 */
export async function loadSeries(
  release: string,
  series: SeriesName,
  directory = patchesDirectory,
): Promise<Patch[]> {
  const folders = await loadFolders(versionOfRelease(release), directory)
  return folderFor(folders, series, release)?.patches ?? []
}

/**
 * The folder of a series for a point release: the one with the newest base that is not newer than that, or else the one with
 * the oldest base.
 *
 * @param folders of one version, as {@link loadFolders} orders them
 */
export function folderFor(
  folders: SeriesFolder[],
  series: SeriesFolder['series'],
  release: string,
): SeriesFolder | undefined {
  const own = folders.filter((folder) => folder.series === series)
  return own.find(({ base }) => compareDebian(base, release) <= 0) ?? own.at(-1)
}

/** Of each series the folder with the newest base: what is newer than that is for these, the others stay as they are. */
export function newestFolders(folders: SeriesFolder[]): SeriesFolder[] {
  return folders.filter((folder) => folder === folders.find(({ series }) => series === folder.series))
}

/** Patches that only tests need, kept apart from the series. */
export async function loadTestOnly(version: string, directory = patchesDirectory): Promise<Patch[]> {
  return loadPatches(`${directory}/test-only/${version}`, 'kernfs')
}

/**
 * Every folder of patches for a version; of those of one series the one with the newest base first.
 *
 * @throws LowerwatchError KERNEL when a `series` file names no base
 */
export async function loadFolders(version: string, directory = patchesDirectory): Promise<SeriesFolder[]> {
  const names = await namesIn(`${directory}/${version}`)
  const folders: SeriesFolder[] = []
  for (const series of [...seriesNames, 'test-only'] as const) {
    const own =
      series === 'test-only'
        ? [`test-only/${version}`]
        : names
            .filter((name) => name === series || name.startsWith(`${series}-`))
            .map((name) => `${version}/${name}`)
    const found: SeriesFolder[] = []
    for (const folder of own) {
      const patches = await loadPatches(`${directory}/${folder}`, series === 'test-only' ? 'kernfs' : series)
      if (patches.length === 0) continue
      const base = baseLine.exec(await readFile(`${directory}/${folder}/series`, 'latin1'))?.[2]
      if (base === undefined)
        throw new LowerwatchError('KERNEL', `${folder}/series names no base`, {
          hint: 'its first line is like "# Base: 7.2.13"',
        })
      found.push({ version, series, folder, base, patches })
    }
    folders.push(...found.sort((a, b) => compareDebian(b.base, a.base)))
  }
  return folders
}

async function namesIn(directory: string): Promise<string[]> {
  try {
    return await readdir(directory)
  } catch (error) {
    if (isCode(error, 'ENOENT')) return []
    throw error
  }
}

/** What a `series` file or a cover letter says of its base. */
export const baseLine = /^((?:# )?Base: )(\d+\.\d+(?:\.\d+)?\b)/m

async function loadPatches(folder: string, series: SeriesName): Promise<Patch[]> {
  let list: string
  try {
    list = await readFile(`${folder}/series`, 'utf8')
  } catch (error) {
    if (isCode(error, 'ENOENT')) return []
    throw error
  }
  const names = list
    .split('\n')
    .map((line) => line.replace(/#.*/, '').trim())
    .filter((line) => line !== '')
  return Promise.all(
    names.map(async (name) => parsePatch(name, series, await readFile(`${folder}/${name}`, 'latin1'))),
  )
}

/** @throws LowerwatchError KERNEL when it changes nothing or has no subject. */
export function parsePatch(name: string, series: SeriesName, text: string): Patch {
  const headEnd = text.indexOf('\n\n')
  const head = text.slice(0, headEnd).replace(/\n[ \t]+/g, ' ')
  const field = (key: string) => new RegExp(`^${key}: (.*)$`, 'mi').exec(head)?.[1]?.trim() ?? ''
  // DEP-3 fields stand below the subject, or with the trailers at the end of the message.
  const message = text.slice(0, text.indexOf('\n---\n'))
  const trailer = (key: string) => new RegExp(`^${key}: (.*)$`, 'mi').exec(message)?.[1]?.trim() ?? ''
  const diffs = parseDiff(text, name)
  const subject = field('Subject').replace(/^\[PATCH[^\]]*\]\s*/, '')
  if (headEnd < 0 || subject === '' || diffs.length === 0)
    throw new LowerwatchError('KERNEL', `${name} is not a mailbox patch`)
  return {
    name,
    series,
    subject,
    message: withoutTrailers(message.slice(headEnd + 2)),
    forwarded: trailer('Forwarded'),
    appliedUpstream: trailer('Applied-Upstream'),
    diffs,
    text,
  }
}

/** A last paragraph that is fields and nothing else are the trailers. */
function withoutTrailers(message: string): string {
  const paragraphs = message.trim().split(/\n{2,}/)
  const isTrailers = paragraphs
    .at(-1)!
    .split('\n')
    .every((line) => /^[A-Z][\w-]*: /.test(line))
  return (isTrailers ? paragraphs.slice(0, -1) : paragraphs).join('\n\n')
}
