// SPDX-License-Identifier: MIT
import { describe, expect, it } from 'vitest'
import {
  escapeLayer,
  lowerdirValue,
  parseOverlayOptions,
  unescapeOctal,
} from '../../../src/overlay/options.js'

describe('superblock options printed by Linux 6.18', () => {
  it.each([
    ['space', 'lowerdir=/t/a\\040b:/t/p', ['/t/a b', '/t/p']],
    ['tab', 'lowerdir=/t/tab\\011x:/t/p', ['/t/tab\tx', '/t/p']],
    ['newline', 'lowerdir=/t/nl\\012x:/t/p', ['/t/nl\nx', '/t/p']],
    ['comma escaped by the user', 'lowerdir=/t/comma\\134\\054x:/t/p', ['/t/comma,x', '/t/p']],
    ['comma given to fsconfig(2) as it is', 'lowerdir=/t/comma\\054x:/t/p', ['/t/comma,x', '/t/p']],
    ['backslash', 'lowerdir=/t/bs\\134\\134x:/t/p', ['/t/bs\\x', '/t/p']],
    ['backslash at the end', 'lowerdir=/t/end\\134\\134:/t/p', ['/t/end\\', '/t/p']],
    ['equals sign', 'lowerdir=/t/eq=x:/t/p', ['/t/eq=x', '/t/p']],
    ['colon', 'lowerdir=/t/colon\\134:x:/t/p', ['/t/colon:x', '/t/p']],
    ['two colons', 'lowerdir=/t/c\\134:\\134:d:/t/p', ['/t/c::d', '/t/p']],
    ['digits after a backslash', 'lowerdir=/t/oct\\134\\134072x:/t/p', ['/t/oct\\072x', '/t/p']],
    ['0xff', 'lowerdir=/t/hi\xffx:/t/p', ['/t/hi\xffx', '/t/p']],
  ])('lowerdir= with %s', (_, printed, lower) => {
    expect(parseOverlayOptions(`ro,${printed},redirect_dir=on`)).toEqual({
      lower,
      dataOnly: [],
      upper: null,
      work: null,
      verbatim: null,
      options: [['redirect_dir', 'on']],
    })
  })

  it('reads layers given one by one, where colons and backslashes mean themselves', () => {
    const parsed = parseOverlayOptions('ro,lowerdir+=/t/colon:x,lowerdir+=/t/bs\\134x,datadir+=/t/c::d')
    expect(parsed.lower).toEqual(['/t/colon:x', '/t/bs\\x'])
    expect(parsed.dataOnly).toEqual(['/t/c::d'])
  })

  it('tells data-only layers from lower layers', () => {
    const parsed = parseOverlayOptions('ro,lowerdir=/t/p:/t/a\\040b::/t/nl\\012x::/t/d')
    expect(parsed.lower).toEqual(['/t/p', '/t/a b'])
    expect(parsed.dataOnly).toEqual(['/t/nl\nx', '/t/d'])
  })

  it('offers both readings of an upper with a backslash', () => {
    const parsed = parseOverlayOptions(
      'rw,lowerdir=/p,upperdir=/u2\\134:\\134\\054\\134\\134\\040x,workdir=/w',
    )
    expect(parsed.upper).toBe('/u2:,\\ x')
    expect(parsed.verbatim).toEqual({ upper: '/u2\\:\\,\\\\ x', work: null })
    expect(parsed.work).toBe('/w')
  })

  it('keeps relative layers relative', () => {
    const parsed = parseOverlayOptions('rw,lowerdir=plain:./a\\040b,upperdir=u,workdir=w,uuid=on')
    expect([parsed.lower, parsed.upper]).toEqual([['plain', './a b'], 'u'])
  })

  it('keeps every other option in order', () => {
    const parsed = parseOverlayOptions(
      'rw,lowerdir=/p,default_permissions,xino=on,userxattr,context="a\\054b"',
    )
    expect(parsed.options).toEqual([
      ['default_permissions', null],
      ['xino', 'on'],
      ['userxattr', null],
      ['context', '"a,b"'],
    ])
  })
})

it('reads names with colons as Linux 6.5 to 6.7 print them', () => {
  expect(parseOverlayOptions('ro,lowerdir=/t/colon\\072x:/t/bs\\134x::/t/d').lower).toEqual([
    '/t/colon:x',
    '/t/bs\\x',
  ])
})

it('undoes only three octal digits', () => {
  expect(unescapeOctal('\\040\\0401\\9\\04')).toBe('  1\\9\\04')
})

it('writes what lowerdir= needs', () => {
  expect(lowerdirValue(['/a:b', '/c,d\\'], ['/e'])).toBe('/a\\:b:/c\\,d\\\\::/e')
  expect(escapeLayer('/plain')).toBe('/plain')
})
