// SPDX-License-Identifier: MIT
import { parse, TomlError } from 'smol-toml'
import * as v from 'valibot'
import { type ByteString, fromText } from '../bytes.js'
import { LowerwatchError } from '../errors.js'
import { type Config, defaultConfig, type OverlayOverrides } from './config.js'
import { type KeyPath, keyLines } from './config-lines.js'
import { nearest } from './nearest.js'

const boolean = v.boolean('true or false')
const absolutePath = v.pipe(v.string('an absolute path'), v.regex(/^\/[^\0]*$/, 'an absolute path'))
const paths = v.array(absolutePath, 'a list of absolute paths')
const share = numberBetween(0.001, 1)
const onVanish = v.picklist(['keep', 'archive', 'prune'], 'one of "keep", "archive", "prune"')
const swap = v.picklist(['auto', 'never'], 'one of "auto", "never"')
const lowerChanges = v.picklist(
  ['leave', 'manual', 'notify', 'reval'],
  'one of "leave", "manual", "notify", "reval"',
)
const levels = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const

const overlayKeys = {
  'on-vanish': v.optional(onVanish),
  swap: v.optional(swap),
  'lower-changes': v.optional(lowerChanges),
  nudge: v.optional(boolean),
  'nudge-copy-up': v.optional(boolean),
  'refresh-share': v.optional(share),
  lowerdir: v.optional(v.pipe(paths, v.minLength(1, 'a list of at least one absolute path'))),
  upperdir: v.optional(absolutePath),
  'data-only': v.optional(paths),
}

const keys = {
  overlays: v.optional(paths),
  all: v.optional(boolean),
  socket: v.optional(absolutePath),
  'metrics-socket': v.optional(absolutePath),
  'log-level': v.optional(v.picklist(levels, `one of ${levels.map((level) => `"${level}"`).join(', ')}`)),
  'refresh-share': v.optional(share),
  'reconcile-interval-ms': v.optional(v.pipe(numberBetween(100, 3_600_000), v.integer('a whole number'))),
  'on-vanish': v.optional(onVanish),
  swap: v.optional(swap),
  'drop-caches': v.optional(boolean),
  'lower-changes': v.optional(lowerChanges),
  nudge: v.optional(boolean),
  'nudge-copy-up': v.optional(boolean),
  // `[[overlay]]` makes a list, which a record would take for a table with the names 0, 1, ...
  overlay: v.optional(
    v.pipe(
      v.custom<object>((value) => typeof value === 'object' && !Array.isArray(value), 'a table'),
      v.record(absolutePath, v.strictObject(overlayKeys, 'a table'), 'a table'),
    ),
  ),
}

const schema = v.strictObject(keys)

function numberBetween(least: number, most: number) {
  const message = `a number from ${least} to ${most}`
  return v.pipe(v.number(message), v.minValue(least, message), v.maxValue(most, message))
}

/** Throws CONFIG with `FILE:LINE: what is wrong`. `file` is only for the message. */
export function parseConfig(text: string, file: string): Config {
  const document = parseToml(text, file)
  const result = v.safeParse(schema, document)
  if (result.success) return toConfig(result.output)
  const lineOf = keyLines(text)
  const complaints = result.issues
    .map((issue) => ({ line: lineOf(pathOf(issue)), text: complaint(issue) }))
    .sort((a, b) => a.line - b.line)
  throw new LowerwatchError('CONFIG', `${file}:${complaints[0]!.line}: ${complaints[0]!.text}`)
}

function parseToml(text: string, file: string): unknown {
  try {
    return parse(text)
  } catch (cause) {
    if (!(cause instanceof TomlError)) throw cause
    const what = cause.message.split('\n')[0]!.replace('Invalid TOML document: ', '')
    throw new LowerwatchError('CONFIG', `${file}:${cause.line}: ${what}`, { cause })
  }
}

type Issue = v.InferIssue<typeof schema>

function pathOf(issue: Issue): KeyPath {
  return (issue.path ?? []).map((item) => item.key as string | number)
}

function complaint(issue: Issue): string {
  const path = pathOf(issue)
  const last = String(path.at(-1))
  const at = issue.path?.at(-1)
  if (issue.expected === 'never') {
    const known = Object.keys(path.length > 1 ? overlayKeys : keys)
    const near = nearest(last, known)
    return `unknown key "${last}" ${near === null ? `(known: ${known.join(', ')})` : `(did you mean "${near}"?)`}`
  }
  if (at?.origin === 'key') return `overlay."${last}" must be named by an absolute path`
  return `${path.map(nameOf).join('')} must be ${issue.message}, not ${show(issue.input)}`
}

function nameOf(key: string | number, index: number): string {
  if (typeof key === 'number') return `[${key}]`
  return (index === 0 ? '' : '.') + (/^[\w-]+$/.test(key) ? key : `"${key}"`)
}

function show(value: unknown): string {
  if (value instanceof Date) return value.toISOString()
  const text = typeof value === 'number' ? String(value) : JSON.stringify(value)
  return text.length > 60 ? `${text.slice(0, 57)}...` : text
}

function toConfig(given: v.InferOutput<typeof schema>): Config {
  const defaults = defaultConfig()
  return {
    overlays: given.overlays?.map(toPath) ?? defaults.overlays,
    all: given.all ?? defaults.all,
    socket: given.socket ?? defaults.socket,
    metricsSocket: given['metrics-socket'] ?? defaults.metricsSocket,
    logLevel: given['log-level'] ?? defaults.logLevel,
    refreshShare: given['refresh-share'] ?? defaults.refreshShare,
    reconcileIntervalMs: given['reconcile-interval-ms'] ?? defaults.reconcileIntervalMs,
    onVanish: given['on-vanish'] ?? defaults.onVanish,
    swap: given.swap ?? defaults.swap,
    dropCaches: given['drop-caches'] ?? defaults.dropCaches,
    lowerChanges: given['lower-changes'] ?? defaults.lowerChanges,
    nudge: given.nudge ?? defaults.nudge,
    nudgeCopyUp: given['nudge-copy-up'] ?? defaults.nudgeCopyUp,
    overlay: new Map(
      Object.entries(given.overlay ?? {}).map(([mountPoint, table]): [ByteString, OverlayOverrides] => [
        toPath(mountPoint),
        {
          onVanish: table['on-vanish'],
          swap: table.swap,
          lowerChanges: table['lower-changes'],
          nudge: table.nudge,
          nudgeCopyUp: table['nudge-copy-up'],
          refreshShare: table['refresh-share'],
          lowerdir: table.lowerdir?.map(toPath),
          upperdir: table.upperdir === undefined ? undefined : toPath(table.upperdir),
          dataOnly: table['data-only']?.map(toPath),
        },
      ]),
    ),
  }
}

/** Mount points are compared with those in the mount table, which end in no slash. */
function toPath(text: string): ByteString {
  return fromText(text.replace(/\/+/g, '/').replace(/(?!^)\/$/, ''))
}
