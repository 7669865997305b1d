// SPDX-License-Identifier: MIT

import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { cacheRoot } from '../../src/kernel/cache.js'
import type { Obtained } from '../../src/kernel/module/commands.js'
import { versionOf } from '../../src/kernel/module/source.js'
import { found } from './guest.js'
import type { Initramfs } from './initramfs.js'
import type { Step } from './qemu.js'

const project = resolve(dirname(fileURLToPath(import.meta.url)), '../..')

/** `lowerwatch kernel module …` in a guest. */
export const lowerwatch = (name: string, ...argv: string[]): Step => ({
  ...program(name, 'kernel', 'module', ...argv),
  env: { XDG_CACHE_HOME: dirname(dirname(cacheRoot())) },
})

/** `lowerwatch …` in a guest. Machine code that is made there would be translated, to run but a few times. */
export const program = (name: string, ...argv: string[]): Step => ({
  name,
  argv: [process.execPath, '--no-expose-wasm', '--jitless', `${project}/dist/cli/main.js`, ...argv],
})

/** The program as it is here. */
export function addProgram(root: Initramfs): void {
  root.program(process.execPath)
  for (const path of ['package.json', 'dist', 'build/Release/lowerwatch.node'])
    addTree(root, `${project}/${path}`)
  for (const folder of packagesOf(`${project}/package.json`)) addTree(root, folder)
}

/** With what its cache has of one module. */
export function addProject(root: Initramfs, { built, headers }: Obtained): void {
  addProgram(root)
  addTree(root, `${project}/kernel-patches`)
  for (const name of ['depmod', 'xz', 'make', 'gcc', 'strip', 'dpkg-deb', 'gcc-12', 'pahole'])
    if (found(name)) root.program(found(name)!)
  const cache = cacheRoot()
  root.host(`${cache}/headers/${built.release}.json`)
  for (const name of [
    '.config',
    'Module.symvers',
    'vmlinux',
    'include/config/kernel.release',
    'include/generated/utsrelease.h',
  ])
    if (existsSync(`${headers.directory}/${name}`)) root.host(`${headers.directory}/${name}`)
  const entry = built.module.replace('/fs/overlayfs/overlay.ko', '')
  for (const path of [built.module, `${entry}.json`]) root.host(path)
  const sources = [
    `src/${headers.packageVersion}`,
    `part/${versionOf(built.release)}-${headers.packageVersion}`,
  ]
  const source = sources.map((path) => `${cache}/${path}`).find((path) => existsSync(`${path}.json`))!
  root.host(`${source}.json`)
  root.host(`${source}/Makefile`)
  addTree(root, `${source}/fs/overlayfs`)
  for (const name of readdirSync(`${source}/fs`)) if (name.endsWith('.h')) root.host(`${source}/fs/${name}`)
}

function addTree(root: Initramfs, path: string): void {
  if (!statSync(path).isDirectory()) root.host(path)
  else for (const name of readdirSync(path)) if (name !== 'node_modules') addTree(root, join(path, name))
}

/** Folders of the packages that the program needs when it runs, and of those that they need. */
function packagesOf(manifest: string, seen = new Set<string>()): Set<string> {
  const { dependencies = {} } = JSON.parse(readFileSync(manifest, 'utf8')) as {
    dependencies?: Record<string, string>
  }
  for (const name of Object.keys(dependencies)) {
    const folder = createRequire(manifest)
      .resolve.paths(name)!
      .map((path) => join(path, name))
      .find((path) => existsSync(`${path}/package.json`))
    if (folder === undefined || seen.has(folder)) continue
    seen.add(folder)
    packagesOf(`${folder}/package.json`, seen)
  }
  return seen
}
