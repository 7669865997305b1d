// SPDX-License-Identifier: MIT
import { expect, it } from 'vitest'
import type { DaemonStatus } from '../../../src/daemon/status.js'
import { statusText } from '../../../src/daemon/status-text.js'

const status: DaemonStatus = {
  version: '1.2.3',
  pid: 7,
  startedAt: '2026-01-02T03:04:05.000Z',
  kernel: '6.18.0',
  mountWatch: { source: 'poll', reason: 'fanotify: EINVAL' },
  watcher: {
    eventsRead: 10,
    eventsOutside: 2,
    eventsOwn: 1,
    overflows: 0,
    degradedDirectories: 0,
    degradedLayers: 0,
    batches: 3,
    directoriesWatched: 4,
    cachedHandles: 5,
    readerCpuNs: 6,
  },
  overlays: [
    {
      device: '0:40',
      mountPoints: ['/merged', { base64: Buffer.from('/\xff', 'latin1').toString('base64') }],
      layers: [
        {
          path: '/lower\n',
          role: 'lower',
          fsType: 'cgroup2',
          scope: 'inotify',
          reasons: ['filesystem: ENODEV'],
          directories: 4,
          unwatched: ['/lower/deep'],
        },
      ],
      unmappable: 'redirect_dir=on',
      rung: 'remount',
      rungReasons: ['kernel: not patched'],
      changes: 9,
      refreshes: 3,
      refreshesAvoided: 5,
      nudges: 1,
      swaps: 0,
      refreshTimeMs: 1.25,
      latencyMs: { p50: 0.21, p90: 1.55, p99: 12, max: 120.4, count: 9 },
      unresolved: [
        {
          path: '',
          kind: 'listing',
          since: '2026-01-02T03:05:00.000Z',
          holders: [
            { pid: 8, command: 'bash', via: 'fd', fd: 3, path: '', directory: true, deleted: false },
            { pid: 9, command: 'vim', via: 'cwd', fd: null, path: 'a b', directory: true, deleted: false },
          ],
        },
      ],
    },
  ],
}

it('says everything once, names as one can read them', () => {
  expect(statusText(status).split('\n')).toEqual([
    'lowerwatch 1.2.3, pid 7, since 2026-01-02T03:04:05.000Z, Linux 6.18.0',
    'mount table: poll [fanotify: EINVAL]',
    '10 events read, 2 outside the layers, 0 overflows, 4 directories watched',
    '',
    '/merged, /\\xff (0:40)',
    '  refresh by remount [kernel: not patched]',
    '  lower /lower\\n (cgroup2) watched by inotify, 4 directories, not watched: /lower/deep [filesystem: ENODEV]',
    '  names cannot be mapped: redirect_dir=on',
    '  9 changes, 3 refreshes in 1.3 ms, 5 not needed, 1 nudges, 0 swaps',
    '  latency of 9: p50 0.210, p90 1.6, p99 12.0, max 120 ms',
    '  stale since 2026-01-02T03:05:00.000Z: / (listing)',
    '    held by 8 (bash) fd 3 /',
    '    held by 9 (vim) cwd a b',
  ])
})

it('says that there is nothing', () => {
  expect(statusText({ ...status, overlays: [] })).toMatch(/\nno overlays$/)
})
