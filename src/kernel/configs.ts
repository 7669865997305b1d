// SPDX-License-Identifier: MIT

import { readFile } from 'node:fs/promises'
import { LowerwatchError } from '../errors.js'
import { patchesDirectory } from './series.js'
import { isCode } from './workspace.js'

/** What a kernel is built for. More of them: a file `kernel-patches/configs/TARGET.config`. */
export const targets = ['uml'] as const
export type Target = (typeof targets)[number]

/**
 * Variants of a build: `kernel-patches/configs/NAME.config` on top of the target's. With `modules`, overlayfs is one, at
 * `fs/overlayfs/overlay.ko` in the build. With `up` the kernel is for one CPU, which benchmarks want: with more, user-mode
 * Linux pays for barriers and per-CPU counters what no machine does.
 */
export const debugVariants = ['lockdep', 'kasan', 'modules', 'up'] as const
export type DebugVariant = (typeof debugVariants)[number]

/**
 * The configuration of a build, as KCONFIG_ALLCONFIG for allnoconfig. Later lines win. What only one version wants is in
 * `TARGET-VERSION.config`, which most do not have.
 */
export async function configText(
  target: Target,
  version: string,
  debug: DebugVariant | null,
): Promise<string> {
  const parts = [await fragment(target)]
  const own = await optionalFragment(`${target}-${version}`)
  if (own !== null) parts.push(own)
  if (debug) parts.push(await fragment(debug))
  return parts.join('\n')
}

async function fragment(name: string): Promise<string> {
  const text = await optionalFragment(name)
  if (text === null) throw new LowerwatchError('USAGE', `there is no configuration ${name}`)
  return text
}

async function optionalFragment(name: string): Promise<string | null> {
  try {
    return await readFile(`${patchesDirectory}/configs/${name}.config`, 'utf8')
  } catch (error) {
    if (isCode(error, 'ENOENT')) return null
    throw error
  }
}

/**
 * What a user-mode kernel does not compile, as tar exclude patterns: three quarters of the source. A copy without it is
 * made in a third of the time, which matters because every build has a copy of its own. Kconfig files and makefiles stay.
 */
export const notCompiled = [
  './.git',
  './debian',
  './arch/[a-tv-wyz]*/*.[chS]',
  './arch/*.dts',
  './arch/*.dtsi',
  './arch/*.dtso',
  './sound/*.[ch]',
  ...[
    'accel',
    'clk',
    'gpu',
    'iio',
    'infiniband',
    'media',
    'net/ethernet',
    'net/wireless',
    'pinctrl',
    'scsi',
  ].map((driver) => `./drivers/${driver}/*.[ch]`),
  './drivers/staging/*.[ch]',
  './drivers/usb/*.[ch]',
  './Documentation/ABI',
  './Documentation/devicetree',
  './Documentation/translations',
  './tools/perf',
  './tools/testing/selftests/bpf',
]
