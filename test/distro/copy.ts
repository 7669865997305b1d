// SPDX-License-Identifier: MIT

import { spawnSync } from 'node:child_process'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect } from 'vitest'
import { cacheRoot } from '../../src/kernel/cache.js'
import type { Image } from './image.js'
import { release } from './releases.js'

const onACopy = join(dirname(fileURLToPath(import.meta.url)), 'on-a-copy')
/** Another kernel from the same source: what an update of the kernel brings. */
export const other = release.includes('-cloud-')
  ? release.replace('-cloud-', '-')
  : release.replace(/-(?=\w+$)/, '-cloud-')

/**
 * Runs lines as root of a copy of this machine that has these kernels: what each said, and its exit status. They share a
 * shell, with `lowerwatch` for this program's `kernel module` and `shows` for what modprobe takes.
 *
 * @param dkms where the package of DKMS is unpacked; null for a machine without
 */
export function runOnACopy(
  { release, other, image, dkms }: { release: string; other: string; image: Image; dkms: string | null },
  lines: string[],
): { status: number; output: string }[] {
  const quoted = (text: string) => `'${text.replaceAll("'", `'\\''`)}'`
  const script = [
    `cd ${quoted(process.cwd())}`,
    `R=${release} OTHER=${other}`,
    `lowerwatch() { ${quoted(process.execPath)} dist/cli/main.js kernel module "$@"; }`,
    'shows() { modprobe -S "$1" --show-depends overlay | sed "s/^insmod //; s/ $//"; }',
    'mkdir -p /lib/modules/$R /lib/modules/$OTHER /var/lib/dkms',
    `cp -a ${quoted(`${image.root}/lib/modules/${release}`)}/. /lib/modules/$R/`,
    // Of the other one only what a test looks at: overlayfs.
    'mkdir -p /lib/modules/$OTHER/kernel/fs; cp -a /lib/modules/$R/kernel/fs/overlayfs /lib/modules/$OTHER/kernel/fs/',
    'cp /lib/modules/$R/modules.{order,builtin,builtin.modinfo} /lib/modules/$OTHER/',
    'rm /lib/modules/$OTHER/kernel/fs/overlayfs/*; touch /lib/modules/$OTHER/modules.dep',
    dkms !== null ? `cp -a ${quoted(dkms)}/. /` : 'rm -rf /usr/sbin/dkms /etc/kernel/*/dkms',
    ...lines.map((line) => `echo "== begin"; { ${line}\n} 2>&1; echo "== end $?"`),
  ]
  const argv = ['--mount', '--propagation', 'private', onACopy, process.cwd(), cacheRoot()]
  const input = `${script.join('\n')}\n`
  const done = spawnSync('unshare', argv, { input, encoding: 'utf8', maxBuffer: 1 << 26 })
  const found = [...done.stdout.matchAll(/^== begin\n([\s\S]*?)^== end (\d+)$/gm)]
  expect(found.length, done.stderr + done.stdout).toBe(lines.length)
  return found.map(([, text, status]) => ({ status: Number(status), output: text!.trim() }))
}
