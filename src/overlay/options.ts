// SPDX-License-Identifier: MIT
import type { ByteString } from '../bytes.js'

export interface OverlayOptions {
  /** Lower layers, uppermost first. A relative path stays relative: the kernel does not say to what. */
  lower: ByteString[]
  dataOnly: ByteString[]
  upper: ByteString | null
  work: ByteString | null
  /** Set when `upper` or `work` has two readings; see {@link parseOverlayOptions}. */
  verbatim: { upper: ByteString | null; work: ByteString | null } | null
  /** All other options in order, `rw` and `ro` left out. */
  options: [name: string, value: string | null][]
}

/**
 * Takes apart the superblock options of an overlay, as /proc/self/mountinfo and statmount(2) print them.
 *
 * Two escapings lie on top of each other. The outer one is the kernel's (seq_show_option(), seq_escape()):
 * space, tab, newline, comma and backslash become `\ooo`. The inner one is the user's: in `lowerdir=`,
 * `upperdir=` and `workdir=` a backslash takes the meaning from the character that follows it. So:
 *
 * - 6.1-6.4 and again since 6.8 `lowerdir=` shows the user's string: `a\:b:c` prints as `a\134:b:c`.
 * - In between it shows the names themselves, with a colon in a name as `\072`. A backslash there is a plain one.
 * - `lowerdir+=` and `datadir+=` (6.7) show each layer's name, with no inner escaping and bare colons.
 * - `upperdir=` shows the user's string, but the plain name if the layer was given as a descriptor (6.13).
 *   Nothing tells which; with a backslash in it there are two readings, and `verbatim` is the second.
 *
 * Separators count before the outer escapes are undone, because only then is a bare colon one.
 * Source: fs/overlayfs/params.c, fs/overlayfs/super.c, Documentation/filesystems/overlayfs.rst.
 */
export function parseOverlayOptions(printed: ByteString): OverlayOptions {
  const result: OverlayOptions = {
    lower: [],
    dataOnly: [],
    upper: null,
    work: null,
    verbatim: null,
    options: [],
  }
  for (const option of printed.split(',')) {
    if (option === '') continue
    const equals = option.indexOf('=')
    const name = unescapeOctal(equals < 0 ? option : option.slice(0, equals))
    addOption(result, name, equals < 0 ? null : option.slice(equals + 1))
  }
  return result
}

function addOption(result: OverlayOptions, name: string, value: ByteString | null): void {
  if (value === null) {
    if (name !== 'rw' && name !== 'ro') result.options.push([name, null])
  } else if (name === 'lowerdir') {
    const { lower, dataOnly } = splitLayers(value)
    result.lower.push(...lower)
    result.dataOnly.push(...dataOnly)
  } else if (name === 'lowerdir+') {
    result.lower.push(unescapeOctal(value))
  } else if (name === 'datadir+') {
    result.dataOnly.push(unescapeOctal(value))
  } else if (name === 'upperdir' || name === 'workdir') {
    addUpper(result, name === 'upperdir' ? 'upper' : 'work', unescapeOctal(value))
  } else {
    result.options.push([name, unescapeOctal(value)])
  }
}

function addUpper(result: OverlayOptions, key: 'upper' | 'work', value: ByteString): void {
  result[key] = unescapeUser(value)
  if (value.includes('\\')) {
    result.verbatim ??= { upper: null, work: null }
    result.verbatim[key] = value
  }
}

/** Layers of a printed `lowerdir=` value: `:` before a lower layer, `::` before a data-only one. */
function splitLayers(printed: ByteString): { lower: ByteString[]; dataOnly: ByteString[] } {
  // A colon of a name is never printed as \072 where the user's own escapes are kept.
  const plainNames = printed.includes('\\072')
  const lower: ByteString[] = []
  const dataOnly: ByteString[] = []
  let target = lower
  let name = ''
  let at = 0
  while (at < printed.length) {
    if (printed[at] === ':') {
      target.push(name)
      name = ''
      const double = printed[at + 1] === ':'
      target = double ? dataOnly : lower
      at += double ? 2 : 1
      continue
    }
    let char = readEscaped(printed, at)
    if (char.text === '\\' && !plainNames && char.next < printed.length)
      char = readEscaped(printed, char.next)
    name += char.text
    at = char.next
  }
  target.push(name)
  return { lower, dataOnly }
}

/** The character at `at`, with the kernel's escaping undone. */
function readEscaped(printed: ByteString, at: number): { text: string; next: number } {
  const octal = /^\\([0-3][0-7]{2})/.exec(printed.slice(at, at + 4))
  if (octal === null) return { text: printed[at] ?? '', next: at + 1 }
  return { text: String.fromCharCode(Number.parseInt(octal[1]!, 8)), next: at + 4 }
}

/** Undoes `\ooo`, the kernel's escaping in everything that it prints about mounts (string_escape_mem()). */
export function unescapeOctal(printed: ByteString): ByteString {
  return printed.replace(/\\([0-3][0-7]{2})/g, (_, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 8)),
  )
}

function unescapeUser(value: ByteString): ByteString {
  return value.replace(/\\([\s\S]?)/g, '$1')
}

/**
 * The value that `lowerdir=` needs for these layers. Commas are escaped too, so that it can stand in the option
 * string of mount(2).
 */
export function lowerdirValue(lower: ByteString[], dataOnly: ByteString[] = []): ByteString {
  return lower.map(escapeLayer).join(':') + dataOnly.map((path) => `::${escapeLayer(path)}`).join('')
}

/** One layer path as `lowerdir=`, `upperdir=` and `workdir=` need it. `lowerdir+` and `datadir+` take it as it is. */
export function escapeLayer(path: ByteString): ByteString {
  return path.replace(/[\\:,]/g, '\\$&')
}
