// SPDX-License-Identifier: MIT
import { parse } from 'smol-toml'

export type KeyPath = readonly (string | number)[]

/**
 * On which line each key and array element of a TOML text stands (from 1). The TOML parser gives no positions, so
 * this walks over the text once more. The text must be valid.
 */
export function keyLines(text: string): (path: KeyPath) => number {
  const lines = new Scan(text).document()
  return (path) => {
    for (let length = path.length; length > 0; length--) {
      const line = lines.get(JSON.stringify(path.slice(0, length)))
      if (line !== undefined) return line
    }
    return 1
  }
}

class Scan {
  readonly #lines = new Map<string, number>()
  readonly #tables = new Map<string, number>()
  #at = 0

  constructor(readonly text: string) {}

  document(): Map<string, number> {
    let table: (string | number)[] = []
    for (this.#skipSpace(); this.#at < this.text.length; this.#skipSpace()) {
      if (this.text[this.#at] === '[') table = this.#header()
      else this.#pair(table)
    }
    return this.#lines
  }

  /** `[a.b]` or `[[a.b]]`; the path of the table, with the index for each array of tables on the way. */
  #header(): (string | number)[] {
    const isArray = this.text.startsWith('[[', this.#at)
    this.#at += isArray ? 2 : 1
    const start = this.#at
    const keys = this.#keys()
    this.#at += isArray ? 2 : 1
    const path: (string | number)[] = []
    for (const [index, key] of keys.entries()) {
      path.push(key)
      const id = JSON.stringify(path)
      if (isArray && index === keys.length - 1) this.#tables.set(id, (this.#tables.get(id) ?? -1) + 1)
      this.#record(path, start)
      const element = this.#tables.get(id)
      if (element !== undefined) {
        path.push(element)
        this.#record(path, start)
      }
    }
    return path
  }

  #pair(table: KeyPath): void {
    const start = this.#at
    const path = [...table]
    for (const key of this.#keys()) {
      path.push(key)
      this.#record(path, start)
    }
    this.#at++ // =
    this.#skipSpace()
    this.#value(path)
  }

  #value(path: KeyPath): void {
    const first = this.text[this.#at]
    if (first === '"' || first === "'") this.#string()
    else if (first === '[') this.#array(path)
    else if (first === '{') this.#inlineTable(path)
    else this.#skip(/[^,\]}\n#]*/y)
  }

  #array(path: KeyPath): void {
    this.#at++
    for (let index = 0; ; index++) {
      this.#skipSpace()
      if (this.#end(']')) return
      this.#record([...path, index], this.#at)
      this.#value([...path, index])
      this.#skipSpace()
      if (this.text[this.#at] === ',') this.#at++
    }
  }

  #inlineTable(path: KeyPath): void {
    this.#at++
    for (;;) {
      this.#skipSpace()
      if (this.#end('}')) return
      this.#pair(path)
      this.#skipSpace()
      if (this.text[this.#at] === ',') this.#at++
    }
  }

  /** True at the closing bracket, which is passed, or at the end of the text. */
  #end(bracket: string): boolean {
    if (this.#at < this.text.length && this.text[this.#at] !== bracket) return false
    this.#at++
    return true
  }

  /** A dotted key, up to the `=` or `]` after it. */
  #keys(): string[] {
    const keys: string[] = []
    for (;;) {
      this.#skip(/[ \t]*/y)
      const quoted = this.text[this.#at] === '"' || this.text[this.#at] === "'"
      const raw = quoted ? this.#string() : this.#skip(/[A-Za-z0-9_-]*/y)
      keys.push(quoted ? String(parse(`key = ${raw}`).key) : raw)
      this.#skip(/[ \t]*/y)
      if (this.text[this.#at] !== '.') return keys
      this.#at++
    }
  }

  #string(): string {
    return this.#skip(
      /"""(?:[^"\\]|\\[\s\S]|"{1,2}(?!"))*"{3,5}|'''(?:[^']|'{1,2}(?!'))*'{3,5}|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'/y,
    )
  }

  #skipSpace(): void {
    this.#skip(/(?:[ \t\r\n]|#[^\n]*)*/y)
  }

  #skip(pattern: RegExp): string {
    pattern.lastIndex = this.#at
    const text = pattern.exec(this.text)?.[0] ?? ''
    this.#at += text.length
    return text
  }

  #record(path: KeyPath, at: number): void {
    const key = JSON.stringify(path)
    if (this.#lines.has(key)) return
    let line = 1
    for (let i = this.text.indexOf('\n'); i >= 0 && i < at; i = this.text.indexOf('\n', i + 1)) line++
    this.#lines.set(key, line)
  }
}
