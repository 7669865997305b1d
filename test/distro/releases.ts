// SPDX-License-Identifier: MIT

/** Kernels of the distribution for which there is a series, chosen by scripts/test-kernel-distro. */
export const releases = process.env.LOWERWATCH_DISTRO_RELEASES!.split(' ')

/** The one that is installed on copies of this machine. */
export const release = releases[0]!
