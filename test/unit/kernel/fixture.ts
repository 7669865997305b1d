// SPDX-License-Identifier: MIT

import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join, relative } from 'node:path'
import { parsePatch } from '../../../src/kernel/series.js'

/** A throw-away kernel source with a Makefile and the given files. Contents are byte strings. */
export async function makeTree(files: Record<string, string>): Promise<AsyncDisposable & { root: string }> {
  const root = await mkdtemp(join(tmpdir(), 'lowerwatch-tree-'))
  const all = { Makefile: 'VERSION = 7\nPATCHLEVEL = 2\nSUBLEVEL = 13\nEXTRAVERSION =\n', ...files }
  for (const [path, content] of Object.entries(all)) {
    await mkdir(dirname(join(root, path)), { recursive: true })
    await writeFile(join(root, path), content, 'latin1')
  }
  return { root, [Symbol.asyncDispose]: () => rm(root, { recursive: true, force: true }) }
}

/** What a tree has besides its Makefile: contents by path, with a slash after the name for directories. */
export async function contents(root: string): Promise<Record<string, string>> {
  const found: Record<string, string> = {}
  for (const entry of await readdir(root, { recursive: true, withFileTypes: true })) {
    const path = relative(root, join(entry.parentPath, entry.name))
    if (entry.isFile()) found[path] = await readFile(join(root, path), 'latin1')
    else found[`${path}${entry.isDirectory() ? '/' : ''}`] = ''
  }
  delete found.Makefile
  return found
}

/** A mailbox patch around a diff. */
export function mail(subject: string, diff: string): string {
  return `From 0000000000000000000000000000000000000000 Mon Sep 17 00:00:00 2001
From: Somebody <somebody@example.org>
Date: Sun, 22 Nov 2026 16:58:38 +0000
Subject: [PATCH 1/2] ${subject}
Forwarded: no
Applied-Upstream: no

First paragraph,
on two lines.

Second.
---
 a | 2 +-

${diff}-- 
2.39.5
`
}

export const patch = (name: string, diff: string) => parsePatch(name, 'kernfs', mail(`do ${name}`, diff))

/** The numbers from 1 to `count`, one a line. */
export const numbers = (count: number, change: Record<number, string> = {}) =>
  Array.from({ length: count }, (_, i) => `${change[i + 1] ?? i + 1}\n`).join('')

/** Changes line 5 of `file` to "five". */
export const five = `diff --git a/file b/file
--- a/file
+++ b/file
@@ -2,7 +2,7 @@
 2
 3
 4
-5
+five
 6
 7
 8
`

/** Changes line 7 to "seven", with "five" in its context: only goes in after the one above. */
export const seven = `diff --git a/file b/file
--- a/file
+++ b/file
@@ -4,7 +4,7 @@ heading
 4
 five
 6
-7
+seven
 8
 9
 10
`

/** Creates `new/script`, executable. */
export const created = `diff --git a/new/script b/new/script
new file mode 100755
index 0000000..1111111
--- /dev/null
+++ b/new/script
@@ -0,0 +1,2 @@
+#!/bin/sh
+exit 0
`
