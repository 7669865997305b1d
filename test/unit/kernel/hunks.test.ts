// SPDX-License-Identifier: MIT

import { describe, expect, it } from 'vitest'
import { parseDiff, reverseDiff } from '../../../src/kernel/diff.js'
import { applyToContent, type Content } from '../../../src/kernel/hunks.js'
import { created, five, numbers } from './fixture.js'

const apply = (diff: string, content: Content) => applyToContent(parseDiff(diff, 'p')[0]!, content)
const reverse = (diff: string, content: Content) =>
  applyToContent(reverseDiff(parseDiff(diff, 'p')[0]!), content)

describe('applyToContent', () => {
  it('applies at the place the hunk names', () => {
    expect(apply(five, numbers(10))).toEqual({ ok: true, content: numbers(10, { 5: 'five' }) })
  })

  it('follows lines that have moved', () => {
    expect(apply(five, `a\nb\nc\n${numbers(10)}`)).toEqual({
      ok: true,
      content: `a\nb\nc\n${numbers(10, { 5: 'five' })}`,
    })
    expect(apply(five, numbers(10).slice(2))).toEqual({
      ok: true,
      content: numbers(10, { 5: 'five' }).slice(2),
    })
  })

  it('takes no line that is only similar, and says which', () => {
    expect(apply(five, numbers(10, { 7: '7 ' }))).toEqual({
      ok: false,
      failures: [{ hunk: 1, why: 'line 7 is "7 ", the patch expects "7"' }],
    })
    expect(apply(five, numbers(10, { 5: 'V' }))).toEqual({
      ok: false,
      failures: [{ hunk: 1, why: 'line 5 is "V", the patch expects "5"' }],
    })
  })

  it('says that there is nothing like it', () => {
    expect(apply(five, 'x\ny\n')).toEqual({
      ok: false,
      failures: [{ hunk: 1, why: 'nothing like it in the file (expected near line 2)' }],
    })
    expect(apply(five, null)).toEqual({ ok: false, failures: [{ hunk: 1, why: 'the file is missing' }] })
  })

  it('keeps hunks in order and reports each that fails', () => {
    const two = `--- a/f\n+++ b/f\n@@ -1,2 +1,2 @@\n-a\n+A\n b\n@@ -5,2 +5,2 @@\n-a\n+A\n b\n`
    expect(apply(two, 'a\nb\nx\ny\na\nb\n')).toEqual({ ok: true, content: 'A\nb\nx\ny\nA\nb\n' })
    expect(apply(two, 'a\nb\nx\ny\n')).toMatchObject({ ok: false, failures: [{ hunk: 2 }] })
  })

  it('creates and deletes files', () => {
    expect(apply(created, null)).toEqual({ ok: true, content: '#!/bin/sh\nexit 0\n' })
    expect(apply(created, '#!/bin/sh\nexit 0\n')).toMatchObject({ ok: false })
    expect(reverse(created, '#!/bin/sh\nexit 0\n')).toEqual({ ok: true, content: null })
    expect(reverse(created, '#!/bin/sh\nexit 0\nmore\n')).toMatchObject({
      ok: false,
      failures: [{ why: 'the file to delete has more in it' }],
    })
  })

  it('minds a missing newline at the end, in both directions', () => {
    const diff = '--- a/f\n+++ b/f\n@@ -1,2 +1,2 @@\n a\n-b\n\\ No newline at end of file\n+c\n'
    expect(apply(diff, 'a\nb')).toEqual({ ok: true, content: 'a\nc\n' })
    expect(apply(diff, 'a\nb\n')).toMatchObject({ ok: false })
    expect(reverse(diff, 'a\nc\n')).toEqual({ ok: true, content: 'a\nb' })
    expect(reverse(diff, 'a\nc')).toMatchObject({ ok: false })
  })

  it('takes what was at the beginning or at the end of the file only there, as git does', () => {
    const lines = ' 18\n 19\n 20\n+new\n'
    const last = `--- a/f\n+++ b/f\n@@ -18,3 +18,4 @@\n${lines}`
    expect(apply(last, numbers(20))).toEqual({ ok: true, content: `${numbers(20)}new\n` })
    expect(apply(last, `first\n${numbers(20)}`)).toEqual({ ok: true, content: `first\n${numbers(20)}new\n` })
    const end = 'found at line 18, the patch expects it at the end of the file'
    // Also what has it already: it must not go in twice.
    for (const content of [`${numbers(20)}new\n`, `${numbers(20)}other\n`])
      expect(apply(last, content)).toEqual({ ok: false, failures: [{ hunk: 1, why: end }] })
    const first = '--- a/f\n+++ b/f\n@@ -1,3 +1,4 @@\n+new\n 1\n 2\n 3\n'
    expect(apply(first, numbers(20))).toEqual({ ok: true, content: `new\n${numbers(20)}` })
    const beginning = 'found at line 2, the patch expects it at the beginning of the file'
    expect(apply(first, `new\n${numbers(20)}`)).toEqual({
      ok: false,
      failures: [{ hunk: 1, why: beginning }],
    })
  })

  it('keeps bytes that are not UTF-8', () => {
    const diff = '--- a/f\n+++ b/f\n@@ -1,2 +1,2 @@\n \xff\xe4\n-b\n+\x80\n'
    expect(apply(diff, '\xff\xe4\nb\n')).toEqual({ ok: true, content: '\xff\xe4\n\x80\n' })
  })

  it('gives the old content back when the new one is reversed', () => {
    for (const content of [numbers(10), `x\n${numbers(12)}y\n`]) {
      const there = apply(five, content)
      if (!there.ok) throw new Error('does not apply')
      expect(reverse(five, there.content)).toEqual({ ok: true, content })
    }
  })
})

describe('parseDiff', () => {
  it('refuses paths that leave the tree', () => {
    for (const path of ['a/../../etc/passwd', 'a//etc/passwd', '/etc/passwd', 'a/./x', 'x'])
      expect(() => parseDiff(`--- ${path}\n+++ ${path}\n@@ -1 +1 @@\n-a\n+b\n`, 'p')).toThrow(
        /not a path below/,
      )
  })

  it('refuses what it would lose', () => {
    for (const line of [
      'rename from x',
      'old mode 100644',
      'GIT binary patch',
      'Binary files a and b differ',
    ])
      expect(() => parseDiff(`diff --git a/x b/x\n${line}\n`, 'p')).toThrow(/unsupported/)
  })

  it('refuses a hunk that is cut short or longer than it says', () => {
    expect(() => parseDiff('--- a/f\n+++ b/f\n@@ -1,3 +1,3 @@\n a\n', 'p')).toThrow(/p, line/)
    expect(() => parseDiff('--- a/f\n+++ b/f\n@@ -1,1 +1,2 @@\n-a\n-b\n+c\n', 'p')).toThrow(/more lines/)
  })
})
