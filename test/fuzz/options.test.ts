// SPDX-License-Identifier: MIT
import fc from 'fast-check'
import { expect, it } from 'vitest'
import { escapeLayer, lowerdirValue, parseOverlayOptions } from '../../src/overlay/options.js'

// What the kernel does to a value before it prints it: seq_show_option(), and seq_escape() with ':' in 6.5-6.7.
const octal = (char: string) => `\\${char.charCodeAt(0).toString(8).padStart(3, '0')}`
const showOption = (value: string) => value.replace(/[, \t\n\\]/g, octal)
const showName = (value: string) => value.replace(/[:, \t\n\\]/g, octal)

/** Any byte that a file name can have, with those that mean something more often. */
const nameByte = fc.oneof(
  fc.constantFrom(...':,\\ \t\n=#"\'+\xff', '0', '7'),
  fc.integer({ min: 1, max: 255 }).map((code) => String.fromCharCode(code)),
)
const layer = fc.array(nameByte, { minLength: 1, maxLength: 12 }).map((bytes) => `/${bytes.join('')}`)
const layers = fc.record({
  lower: fc.array(layer, { minLength: 1, maxLength: 4 }),
  dataOnly: fc.array(layer, { maxLength: 3 }),
})

const runs = { numRuns: 2000 }

it('layers come back from the string a user gave (6.1-6.4, from 6.8)', () => {
  fc.assert(
    fc.property(layers, ({ lower, dataOnly }) => {
      const parsed = parseOverlayOptions(`ro,lowerdir=${showOption(lowerdirValue(lower, dataOnly))},xino=on`)
      expect(parsed).toMatchObject({ lower, dataOnly, options: [['xino', 'on']] })
    }),
    runs,
  )
})

it('layers come back from names printed with \\072 (6.5-6.7)', () => {
  fc.assert(
    fc.property(layers, ({ lower, dataOnly }) => {
      // Without a colon in any name this form cannot be told from the other one: then no backslash either.
      fc.pre(
        [...lower, ...dataOnly].some((name) => name.includes(':')) ||
          !/\\/.test([...lower, ...dataOnly].join('')),
      )
      const value = lower.map(showName).join(':') + dataOnly.map((name) => `::${showName(name)}`).join('')
      expect(parseOverlayOptions(`ro,lowerdir=${value}`)).toMatchObject({ lower, dataOnly })
    }),
    runs,
  )
})

it('layers come back from lowerdir+ and datadir+ (from 6.7)', () => {
  fc.assert(
    fc.property(layers, ({ lower, dataOnly }) => {
      const printed = [
        ...lower.map((name) => `lowerdir+=${showOption(name)}`),
        ...dataOnly.map((name) => `datadir+=${showOption(name)}`),
      ]
      expect(parseOverlayOptions(printed.join(','))).toMatchObject({ lower, dataOnly })
    }),
    runs,
  )
})

it('an upper comes back whether it was given as a string or as a descriptor', () => {
  fc.assert(
    fc.property(layer, (upper) => {
      expect(parseOverlayOptions(`upperdir=${showOption(escapeLayer(upper))}`).upper).toBe(upper)
      const fromDescriptor = parseOverlayOptions(`upperdir=${showOption(upper)}`)
      expect([fromDescriptor.upper, fromDescriptor.verbatim?.upper]).toContain(upper)
    }),
    runs,
  )
})

it('no option string makes the parser fail', () => {
  fc.assert(
    fc.property(fc.array(nameByte), (bytes) => {
      expect(parseOverlayOptions(bytes.join('')).lower).toBeInstanceOf(Array)
    }),
    runs,
  )
})
