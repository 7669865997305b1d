// SPDX-License-Identifier: MIT
import { readFileSync } from 'node:fs'
import { type ByteString, fromText } from '../bytes.js'

/**
 * The bytes of a command line argument. Node decodes arguments as UTF-8, which loses every byte that is not;
 * /proc/self/cmdline still has them.
 */
export function argumentBytes(text: string): ByteString {
  // U+FFFD is what is left of such a byte.
  return text.includes('\ufffd') ? (rawArguments().get(text) ?? fromText(text)) : fromText(text)
}

function rawArguments(): Map<string, ByteString> {
  const raw = readFileSync('/proc/self/cmdline', 'latin1').split('\0')
  return new Map(raw.map((argument) => [Buffer.from(argument, 'latin1').toString('utf8'), argument]))
}
