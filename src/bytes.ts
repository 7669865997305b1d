// SPDX-License-Identifier: MIT

/**
 * File names are bytes, not text. Inside the program a name or a path is a *byte string*: a JavaScript
 * string in which every character code is one byte (0-255). It hashes, compares and concatenates like a
 * string, and loses nothing. It becomes text only at the edge, through {@link display} or {@link toJson}.
 */
export type ByteString = string & { readonly __bytes?: 'one character per byte' }

const utf8 = new TextDecoder('utf-8', { fatal: true })

/** Bytes of ordinary text (UTF-8 encoded), for example a path typed by a person. */
export function fromText(text: string): ByteString {
  return Buffer.from(text, 'utf8').toString('latin1')
}

export function fromBuffer(bytes: Uint8Array): ByteString {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1')
}

export function toBuffer(bytes: ByteString): Buffer {
  return Buffer.from(bytes, 'latin1')
}

/** The text that the bytes are in UTF-8, or null when they are not valid UTF-8. */
export function toText(bytes: ByteString): string | null {
  try {
    return utf8.decode(toBuffer(bytes))
  } catch {
    return null
  }
}

/**
 * For people: printable text on one line. Control characters, backslashes and bytes that are not UTF-8 are
 * written as `\n`, `\t`, `\\` or `\xNN`, so that two different names never look the same.
 */
export function display(bytes: ByteString): string {
  const text = toText(bytes)
  if (text !== null) return escapeControls(text)
  let out = ''
  for (const char of bytes) {
    const code = char.charCodeAt(0)
    out += code < 0x80 ? escapeControls(char) : `\\x${code.toString(16).padStart(2, '0')}`
  }
  return out
}

function escapeControls(text: string): string {
  let out = ''
  for (const char of text) {
    const code = char.codePointAt(0) ?? 0
    if (char === '\\') out += '\\\\'
    else if (char === '\n') out += '\\n'
    else if (char === '\t') out += '\\t'
    else if (code < 0x20 || code === 0x7f) out += `\\x${code.toString(16).padStart(2, '0')}`
    else if (code >= 0x80 && code < 0xa0) out += `\\u{${code.toString(16)}}`
    else out += char
  }
  return out
}

/** For programs: a plain string when the bytes are UTF-8, else `{ base64 }`. Nothing is lost either way. */
export function toJson(bytes: ByteString): string | { base64: string } {
  return toText(bytes) ?? { base64: toBuffer(bytes).toString('base64') }
}

/** `directory` and `name` joined; the empty directory is the root of its layer. */
export function join(directory: ByteString, name: ByteString): ByteString {
  if (directory === '') return name
  return name === '' ? directory : `${directory}/${name}`
}

/** Splits a relative path in its directory ('' for the root) and its last name. */
export function split(path: ByteString): { directory: ByteString; name: ByteString } {
  const slash = path.lastIndexOf('/')
  return slash < 0
    ? { directory: '', name: path }
    : { directory: path.slice(0, slash), name: path.slice(slash + 1) }
}
