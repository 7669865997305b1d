// SPDX-License-Identifier: MIT

import { LowerwatchError } from '../../errors.js'

/** What the kernel looks at when it loads a module. Source: elf(5), kernel/module/main.c. */
export interface ModuleInfo {
  /** `vermagic`, `license`, `parm`, … in the order they stand; a key can be there several times. */
  modinfo: [string, string][]
  /** Symbols that somebody else has to define. */
  undefined: string[]
  /** With CONFIG_MODVERSIONS: the checksum of the type of each symbol that is used. */
  versions: Map<string, number>
  /** The .BTF section, null when there is none. */
  btf: Buffer | null
}

interface Section {
  name: string
  offset: number
  size: number
  link: number
}

/**
 * Reads a module or a vmlinux, 64-bit little-endian.
 *
 * @throws LowerwatchError KERNEL when it is something else
 */
export function readModule(file: Buffer, name: string): ModuleInfo {
  try {
    return read(file)
  } catch (error) {
    if (!(error instanceof RangeError)) throw error
    throw new LowerwatchError('KERNEL', `${name} is no 64-bit little-endian ELF file`, { cause: error })
  }
}

function read(file: Buffer): ModuleInfo {
  const sections = readSections(file)
  const section = (name: string) => sections.find((entry) => entry.name === name)
  const bytes = (entry: Section | undefined) =>
    entry ? file.subarray(entry.offset, entry.offset + entry.size) : null
  const modinfo = (bytes(section('.modinfo'))?.toString('latin1') ?? '')
    .split('\0')
    .filter((field) => field.includes('='))
    .map((field): [string, string] => [
      field.slice(0, field.indexOf('=')),
      field.slice(field.indexOf('=') + 1),
    ])
  const symbols = section('.symtab')
  return {
    modinfo,
    undefined: symbols ? undefinedSymbols(bytes(symbols)!, bytes(sections[symbols.link])!) : [],
    versions: readVersions(bytes(section('__versions'))),
    btf: bytes(section('.BTF')),
  }
}

function readSections(file: Buffer): Section[] {
  if (file.length < 64 || file.readUInt32BE(0) !== 0x7f454c46 || file[4] !== 2 || file[5] !== 1)
    throw new RangeError('not ELF64 LE')
  const start = Number(file.readBigUInt64LE(40))
  const [size, count, namesAt] = [file.readUInt16LE(58), file.readUInt16LE(60), file.readUInt16LE(62)]
  const raw = Array.from({ length: count }, (_, i) => {
    const at = start + i * size
    return {
      nameAt: file.readUInt32LE(at),
      offset: Number(file.readBigUInt64LE(at + 24)),
      size: Number(file.readBigUInt64LE(at + 32)),
      link: file.readUInt32LE(at + 40),
    }
  })
  const names = raw[namesAt]
  if (!names) throw new RangeError('no section names')
  return raw.map((entry) => ({ ...entry, name: cString(file, names.offset + entry.nameAt) }))
}

function undefinedSymbols(table: Buffer, names: Buffer): string[] {
  const found: string[] = []
  for (let at = 24; at + 24 <= table.length; at += 24) {
    // SHN_UNDEF; the linker makes the other one.
    if (table.readUInt16LE(at + 6) !== 0) continue
    const name = cString(names, table.readUInt32LE(at))
    if (name !== '' && name !== '_GLOBAL_OFFSET_TABLE_') found.push(name)
  }
  return found.sort()
}

/** struct modversion_info: a checksum in a long, a name in 56 bytes. */
function readVersions(section: Buffer | null): Map<string, number> {
  const versions = new Map<string, number>()
  for (let at = 0; section && at + 64 <= section.length; at += 64)
    versions.set(cString(section, at + 8), section.readUInt32LE(at))
  return versions
}

function cString(bytes: Buffer, at: number): string {
  const end = bytes.indexOf(0, at)
  return bytes.toString('latin1', at, end < 0 ? bytes.length : end)
}
