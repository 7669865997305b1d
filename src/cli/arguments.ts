// SPDX-License-Identifier: MIT
import { readFileSync } from 'node:fs'
import { type ByteString, fromText } from '../bytes.js'

/**
 * The bytes of command line arguments, which must be all of their command and in its order. Node decodes arguments
 * as UTF-8, which loses every byte that is not, and makes different arguments the same; /proc/self/cmdline still
 * has them.
 */
export function argumentBytes(texts: string[]): ByteString[] {
  // U+FFFD is what is left of such a byte.
  if (!texts.some((text) => text.includes('\ufffd'))) return texts.map(fromText)
  const raw = readFileSync('/proc/self/cmdline', 'latin1').split('\0')
  const decoded = raw.map((argument) => Buffer.from(argument, 'latin1').toString('utf8'))
  let next = 0
  return texts.map((text) => {
    const at = decoded.indexOf(text, next)
    if (at < 0) return fromText(text)
    next = at + 1
    return raw[at]!
  })
}
