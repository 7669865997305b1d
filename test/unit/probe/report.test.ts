// SPDX-License-Identifier: MIT
import { describe, expect, it } from 'vitest'
import { Bit, eventLine, kindsOf, type SeenEvent, seenEvent, summary } from '../../../src/probe/events.js'
import { matrix } from '../../../src/probe/matrix.js'
import { tapReport } from '../../../src/probe/report-tap.js'
import { textReport } from '../../../src/probe/report-text.js'
import type { ProbeReport } from '../../../src/probe/run.js'
import type { Row } from '../../../src/probe/types.js'

const event = (kinds: string[], name = '', subjects = ['directory']): SeenEvent => ({
  kinds,
  directory: false,
  subjects,
  name,
})

describe('what a number of events says', () => {
  it.each([
    ['nothing', [], null, 'nothing'],
    [
      'kinds, in a fixed order',
      [event(['MOVED_TO'], 'b'), event(['MOVED_FROM'], 'a')],
      null,
      'MOVED_FROM MOVED_TO',
    ],
    ['each name once', [event(['CREATE'], 'a'), event(['CREATE'], 'b')], ['a', 'b'], 'CREATE'],
    ['a name that is missing', [event(['CREATE'], 'a')], ['a', 'b'], 'CREATE (not all names)'],
    ['other names', [event(['CREATE'], 'x')], ['a'], 'CREATE (other names)'],
    ['a name told twice', [event(['CREATE'], 'a'), event(['CREATE'], 'a')], ['a'], 'CREATE (twice)'],
    ['no names at all', [event(['CREATE'])], ['a', 'b'], 'CREATE'],
    ['a hint beside names', [event(['MODIFY'], 'x'), event(['CREATE'], 'a')], ['a'], 'MODIFY CREATE'],
  ])('%s', (_, events, names, text) => {
    expect(summary(events, names)).toBe(text)
  })

  it('decodes masks and labels', () => {
    expect(kindsOf(Bit.CREATE | Bit.DELETE | 0x40000000)).toEqual(['CREATE', 'DELETE'])
    const raw = {
      mask: Bit.DELETE | 0x40000000,
      lengthBytes: 0,
      records: [
        { type: 2, handle: 'known', name: 'gone\n' },
        { type: 1, handle: 'other', name: '' },
      ],
    }
    const seen = seenEvent(raw, (key) => (key === 'known' ? 'directory' : null))
    expect(eventLine(seen)).toBe('DELETE|DIR directory ? gone\\n')
  })
})

const row = (id: string, more: Partial<Row> = {}): Row => ({
  id,
  did: 'something is done',
  group: 'overlay',
  status: 'ok',
  expected: 'a',
  seen: 'a',
  reason: '',
  measured: {},
  events: [],
  ...more,
})

const report = (rows: Row[], kernfsEvents = false): ProbeReport => ({
  kernel: '6.99',
  processor: 'UML',
  user: 'root',
  features: [{ id: 'kernfs-events', what: 'kernfs tells', has: kernfsEvents, how: '' }],
  rows,
  leftBehind: [],
})

const skipped = { status: 'skipped', expected: null, seen: null, reason: 'no #loop here' } as const
const differs: Partial<Row> = { status: 'differs', seen: 'b', events: [event(['CREATE'], 'x')] }

describe('TAP', () => {
  it('has a point for each row, skips with the reason, and says how a row differs', () => {
    const text = tapReport(report([row('one'), row('two', skipped), row('three', differs)]), true)
    expect(text.split('\n')).toEqual([
      'TAP version 14',
      '1..3',
      'ok 1 - one',
      'ok 2 - two # SKIP no \\#loop here',
      'not ok 3 - three',
      '  ---',
      '  did: "something is done"',
      '  expected: "a"',
      '  seen: "b"',
      '  ...',
      '# CREATE directory x',
    ])
  })

  it('says what is left behind', () => {
    expect(tapReport({ ...report([]), leftBehind: ['a mount'] }, false)).toContain(
      'Bail out! left behind: a mount',
    )
  })
})

const silence = ['inotify-directory', 'fanotify-fs-name'].map((watcher) =>
  row(`sysfs/device-appears/${watcher}`, {
    group: 'kernfs',
    did: `a network device appears (/sys/class/net): ${watcher}`,
    seen: 'nothing',
  }),
)
const told = silence.map((one) => ({ ...one, seen: 'CREATE' }))

describe('the report for people', () => {
  it('draws a matrix and says what it means', () => {
    const text = textReport(report(silence), false)
    expect(text).toMatch(/^sysfs +in:dir +fs:name\ndevice-appears +\. +\.\n/m)
    expect(text).toContain('without any event on this kernel; the kernfs series changes that')
    expect(textReport(report(told, true), false)).toMatch(/^device-appears +C +C\n.*told to everybody who/m)
  })

  it('names who was not told', () => {
    const text = textReport(report([told[0]!, silence[1]!], true), false)
    expect(text).toContain('told to inotify-directory; not to fanotify-fs-name')
  })

  it('names rows that differ, counts, and shows events when asked', () => {
    const text = textReport(report([row('one'), row('two', skipped), row('three', differs)]), true)
    expect(text).toContain('differs: three: expected a, seen b (something is done)')
    expect(text).toContain('three\n  CREATE directory x')
    expect(text).toMatch(/1 as expected, 1 differ, 1 skipped$/)
  })
})

describe('the matrix of several kernels', () => {
  it('says once what is the same, and which kernels differ', () => {
    const same = matrix([report(silence), report(silence)])
    expect(same).toContain('- a network device appears (/sys/class/net): without any event on this kernel;')
    const text = matrix([report(silence), report(told, true)])
    expect(text).toContain('  - 1: without any event on this kernel; the kernfs series changes that')
    expect(text).toContain('  - 2: told to everybody who may listen')
    expect(text).toContain('| `sysfs/device-appears/inotify-directory` | nothing | CREATE |')
  })

  it('shows numbers, and leaves skipped rows empty', () => {
    const text = matrix([
      report([row('overlay/x', { measured: { remountUs: 5 } }), row('overlay/y', skipped)]),
    ])
    expect(text).toContain('| `overlay/x` | a<br>remountUs 5 |')
    expect(text).toContain('| `overlay/y` |  |')
  })
})
