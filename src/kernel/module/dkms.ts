// SPDX-License-Identifier: MIT

import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { LowerwatchError } from '../../errors.js'
import { quote } from '../init-script.js'
import { versions } from '../series.js'
import { onPath, output } from '../tools.js'
import type { Headers } from './headers.js'
import type { Target } from './target.js'
import { undone } from './undone.js'

const packageName = 'lowerwatch-overlay'
const installDirectory = '/updates/dkms'

/** Package of modules that DKMS keeps: dkms(8). */
export interface DkmsPackage {
  version: string
  /** Source tree: `dkms.conf` and what it runs. */
  directory: string
}

export async function dkmsPackage(): Promise<DkmsPackage> {
  const file = new URL('../../../package.json', import.meta.url)
  const { version } = JSON.parse(await readFile(file, 'utf8')) as { version: string }
  return { version, directory: sources(version) }
}

const sources = (version: string) => `/usr/src/${packageName}-${version}`

export const hasDkms = () => onPath('dkms')

/**
 * What builds the module for a kernel is this program: it knows the source that belongs to it. Paths are as they are now.
 *
 * AUTOINSTALL is not set: a build that fails while a kernel is installed would fail the kernel's package. What
 * {@link hookTexts} gives builds instead, and a failure leaves the stock module.
 */
export function confText(version: string, kernels: string[]): string {
  return `# Made by lowerwatch. The patched overlayfs, for kernels that a series is for.
PACKAGE_NAME="${packageName}"
PACKAGE_VERSION="${version}"
MAKE[0]="./build $kernelver"
CLEAN="true"
BUILT_MODULE_NAME[0]="overlay"
DEST_MODULE_LOCATION[0]="${installDirectory}"
STRIP[0]="no"
BUILD_EXCLUSIVE_KERNEL="^(${kernels.map((kernel) => kernel.replaceAll('.', '\\.')).join('|')})\\."
`
}

/** How this program is started from a script of the system, with its cache. */
function commandLine(cache: string): string {
  const main = fileURLToPath(new URL('../../cli/main.js', import.meta.url))
  // The cache of the one who installed: it has the sources, and a script of the system has no HOME.
  return `XDG_CACHE_HOME=${quote(cache)} exec ${quote(process.execPath)} ${quote(main)}`
}

export function buildScript(cache: string): string {
  return `#!/bin/sh
# Made by lowerwatch: what dkms.conf runs. Leaves overlay.ko in the working directory, or fails.
${commandLine(cache)} kernel module build --release "$1" --output overlay.ko
`
}

/**
 * What is run when a kernel or its headers are installed, or before a kernel is removed, with its release. It never fails:
 * where there is no module of ours the stock one is used. Before initramfs-tools, in the order of run-parts(8), so that an
 * initramfs has the same module.
 */
export function hookTexts(cache: string): Map<string, string> {
  const hook = (does: string, command: string, otherwise: string) => `#!/bin/sh
# Made by lowerwatch: ${does}. "lowerwatch kernel module remove" removes this.
[ -n "$1" ] && [ -e "/lib/modules/$1/modules.dep" ] || exit 0
( ${commandLine(cache)} kernel module ${command} --release "$1" --from-hook >/dev/null ) ||
  echo "lowerwatch: ${otherwise}" >&2
exit 0
`
  const install = hook(
    'the patched overlayfs for a kernel that was installed',
    'install',
    'Linux $1 keeps the overlayfs that it came with',
  )
  const remove = hook(
    'the patched overlayfs of a kernel that is removed',
    'remove',
    'the overlayfs of Linux $1 stays',
  )
  const [image, headers, removal] = hooks
  return new Map([
    [image!, install],
    [headers!, install],
    [removal!, remove],
  ])
}

/** Those of the image, its headers, and its removal. */
export const hooks = ['postinst.d', 'header_postinst.d', 'prerm.d'].map(
  (folder) => `/etc/kernel/${folder}/dkms-lowerwatch`,
)

/** Builds and installs through DKMS. @throws LowerwatchError KERNEL, and then DKMS does not know the package any more */
export async function dkmsInstall(target: Target, headers: Headers, cache: string): Promise<string> {
  const { version, directory } = await dkmsPackage()
  // What is there is of before: the series may be another one.
  await dkmsRemove(target)
  await target.replace(`${directory}/dkms.conf`, confText(version, await versions()))
  await target.replace(`${directory}/build`, buildScript(cache), 0o755)
  const of = ['-m', packageName, '-v', version]
  const { release } = target
  try {
    if (!(await isAdded(version))) await output('dkms', ['add', ...of])
    // The headers may be in the cache, and neither module has a version that could be compared.
    const force = ['--force', '--kernelsourcedir', headers.directory]
    await output('dkms', ['install', ...of, '-k', release, ...force])
  } catch (error) {
    throw await undone(error, () => dkmsRemove(target))
  }
  const path = await target.resolved()
  if (path === null || !target.dkmsPaths.includes(path)) {
    await dkmsRemove(target)
    throw new LowerwatchError('KERNEL', `modprobe would load ${path}, not what DKMS installed`, {
      hint: 'see depmod.d(5)',
    })
  }
  return path
}

/**
 * Takes the module of this kernel from DKMS, of whatever version of this program, and the package when no other kernel has
 * one; false when DKMS did not know it.
 */
export async function dkmsRemove(target: Target): Promise<boolean> {
  const own = (await dkmsPackage()).version
  // `lowerwatch-overlay/1.0, …`; before DKMS 3 `lowerwatch-overlay, 1.0, …`.
  const known = [...(await status()).matchAll(/^lowerwatch-overlay(?:\/|, )([\w.+~-]+)/gm)].map(
    (match) => match[1]!,
  )
  for (const version of new Set(known)) {
    const of = ['-m', packageName, '-v', version]
    await output('dkms', ['remove', ...of, '-k', target.release]).catch(ignoreUnknown)
    if (/: (built|installed)/.test(await status(version))) continue
    if (await isAdded(version)) await output('dkms', ['remove', ...of, '--all']).catch(ignoreUnknown)
  }
  for (const version of new Set([own, ...known]))
    if (!(await isAdded(version)))
      for (const name of ['dkms.conf', 'build']) await target.remove(`${sources(version)}/${name}`)
  return known.length > 0
}

const status = (version?: string) =>
  output('dkms', ['status', '-m', packageName, ...(version === undefined ? [] : ['-v', version])])

const isAdded = async (version: string) => (await status(version)).includes(packageName)

/** DKMS fails for what it does not have. Source: dkms 3.0.10 and 3.2.2, do_uninstall() and is_module_added(). */
function ignoreUnknown(error: unknown): void {
  const { stdout = '', stderr = '' } = (error as { cause?: { stdout?: string; stderr?: string } }).cause ?? {}
  if (!/not located in|is not (built|installed)|There is no instance/i.test(stdout + stderr)) throw error
}
