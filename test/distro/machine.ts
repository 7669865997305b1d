// SPDX-License-Identifier: MIT

import { execFileSync } from 'node:child_process'
import { copyFile, mkdir, mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { filesOfModules, type Image } from './image.js'

/** The root of a machine that is not running, with a kernel's overlayfs and nothing else. */
export async function makeMachine(image: Image): Promise<AsyncDisposable & { root: string }> {
  const root = await mkdtemp(join(tmpdir(), 'lowerwatch-machine-'))
  const folder = `lib/modules/${image.release}`
  const lists = ['order', 'builtin', 'builtin.modinfo'].map((end) => `${folder}/modules.${end}`)
  for (const file of [...(await filesOfModules(image, ['overlay'])), ...lists]) {
    await mkdir(dirname(`${root}/${file}`), { recursive: true })
    await copyFile(`${image.root}/${file}`, `${root}/${file}`)
  }
  await mkdir(`${root}/etc/kernel/postinst.d`, { recursive: true })
  execFileSync('depmod', ['-b', root, image.release])
  return { root, [Symbol.asyncDispose]: () => rm(root, { recursive: true, force: true }) }
}

/** Every file below a directory, with its content. */
export async function contentsOf(root: string): Promise<Map<string, string>> {
  const found = new Map<string, string>()
  for (const entry of await readdir(root, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name)
    if (entry.isFile()) found.set(path.slice(root.length), await readFile(path, 'latin1'))
  }
  return found
}

/** What modprobe(8) would load on a machine. */
export function modprobeTakes(root: string, release: string): string {
  const text = execFileSync('modprobe', ['-d', root, '-S', release, '--show-depends', 'overlay'], {
    encoding: 'utf8',
  })
  return text
    .trim()
    .replace(/^insmod /, '')
    .slice(root.length)
}
