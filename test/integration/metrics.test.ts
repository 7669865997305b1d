// SPDX-License-Identifier: MIT
import { once } from 'node:events'
import { type IncomingMessage, request } from 'node:http'
import { dirname, join } from 'node:path'
import { expect, test } from 'vitest'
import { Cleanup } from './fixture/cleanup.js'
import { startDaemon } from './fixture/daemon.js'
import { makeOverlay } from './fixture/overlay.js'

test('metrics are served on their socket, by overlay', async () => {
  const cleanup = new Cleanup()
  try {
    const overlay = await makeOverlay({ lowers: 1, upper: true, lowerFs: 'tmpfs' })
    cleanup.defer('overlay', () => overlay.unmount())
    const socketPath = join(dirname(overlay.mountPoint), 'metrics.sock')
    const daemon = await startDaemon([overlay.mountPoint], { config: `metrics-socket = "${socketPath}"\n` })
    cleanup.defer('daemon', () => daemon.stop())
    const asked = request({ socketPath, path: '/metrics' }).end()
    const [response] = (await once(asked, 'response')) as [IncomingMessage]
    let text = ''
    for await (const chunk of response) text += chunk
    expect(response.statusCode).toBe(200)
    expect(text).toMatch(new RegExp(`^lowerwatch_unresolved\\{overlay="${overlay.mountPoint}"\\} 0$`, 'm'))
    expect(text).toMatch(/^lowerwatch_overflows 0$/m)
  } finally {
    await cleanup.run()
  }
})
