// SPDX-License-Identifier: MIT

import { obtainModule } from '../../src/kernel/module/commands.js'

/** Kernels of the distribution for which there is a series, chosen by scripts/test-kernel-distro. */
export const releases = process.env.LOWERWATCH_DISTRO_RELEASES!.split(' ')

/** The one that is installed on copies of this machine. */
export const release = releases[0]!

/** The patched overlay.ko for one of them: that of `--module`, built elsewhere, or it is built here. */
export const moduleFor = async (wanted: string): Promise<string> =>
  process.env.LOWERWATCH_DISTRO_MODULE || (await obtainModule({ release: wanted })).module
