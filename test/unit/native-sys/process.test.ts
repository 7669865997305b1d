// SPDX-License-Identifier: MIT
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { createConnection, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, describe, expect, it } from 'vitest'
import { native } from '../../../src/native.js'

const base = mkdtempSync(join(tmpdir(), 'lowerwatch-process-'))
afterAll(() => rmSync(base, { recursive: true }))

/** Runs a script with the addon as `native` in a process of its own. */
function child(script: string) {
  const load = `const native = require('node-gyp-build')(${JSON.stringify(process.cwd())});`
  return spawnSync(process.execPath, ['-e', load + script], { encoding: 'utf8' })
}

const python = spawnSync('python3', ['-c', '']).status === 0
if (!python) process.stderr.write('skipped: notifySystemd to a real socket: no python3 to listen with\n')

describe('notifySystemd', () => {
  afterEach(() => {
    delete process.env.NOTIFY_SOCKET
  })

  for (const address of [join(base, 'notify'), `@lowerwatch-test-${process.pid}`]) {
    it.skipIf(!python)(
      `sends one datagram to ${address[0] === '@' ? 'an abstract name' : 'a path'}`,
      async () => {
        const script =
          'import socket,sys; s=socket.socket(socket.AF_UNIX,socket.SOCK_DGRAM); s.bind(sys.argv[1].replace("@","\\0"));' +
          'print("bound",flush=True); sys.stdout.buffer.write(s.recv(4096)); sys.stdout.flush()'
        const listener = spawn('python3', ['-c', script, address], { stdio: ['ignore', 'pipe', 'inherit'] })
        let output = ''
        listener.stdout.on('data', (text) => {
          output += text
        })
        await once(listener.stdout, 'data')
        process.env.NOTIFY_SOCKET = address
        expect(native.notifySystemd('READY=1\nSTATUS=fünf')).toBe(true)
        await once(listener, 'close')
        expect(output).toBe('bound\nREADY=1\nSTATUS=fünf')
      },
    )
  }

  it('says false without a socket, and why when nobody listens', () => {
    expect(native.notifySystemd('READY=1')).toBe(false)
    process.env.NOTIFY_SOCKET = join(base, 'nobody')
    expect(() => native.notifySystemd('READY=1')).toThrow(/sendto: ENOENT/)
    process.env.NOTIFY_SOCKET = 'relative'
    expect(() => native.notifySystemd('READY=1')).toThrow(/EINVAL/)
    process.env.NOTIFY_SOCKET = `/${'x'.repeat(200)}`
    expect(() => native.notifySystemd('READY=1')).toThrow(/EINVAL/)
  })
})

describe('capabilities', () => {
  const effective = (status: string) => BigInt(`0x${/CapEff:\s+([0-9a-f]+)/.exec(status)?.[1]}`)

  it('are those of /proc/self/status', () => {
    const mask = effective(execFileSync('cat', [`/proc/${process.pid}/status`], { encoding: 'utf8' }))
    const names = native.capabilities()
    expect(names.includes('CAP_SYS_ADMIN')).toBe((mask >> 21n) % 2n === 1n)
    expect(names.includes('CAP_CHECKPOINT_RESTORE')).toBe((mask >> 40n) % 2n === 1n)
    let count = 0
    for (let rest = mask & ((1n << 41n) - 1n); rest > 0n; rest >>= 1n) count += Number(rest & 1n)
    expect(names).toHaveLength(count)
  })

  it.skipIf(!native.capabilities().includes('CAP_SETPCAP'))('can be given up for good', () => {
    const { stdout, stderr } = child(`
      native.dropCapabilities(['CAP_SYS_ADMIN', 'CAP_DAC_READ_SEARCH'])
      console.log(native.capabilities().join())
      console.log(require('fs').readFileSync('/proc/thread-self/status', 'utf8').match(/(Cap|NoNew).*/g).join('\\n'))
      try { require('fs').chownSync('/tmp', 1, 1); console.log('chown worked') } catch (e) { console.log(e.code) }
      try { native.dropCapabilities(['CAP_CHOWN']) } catch (e) { console.log(e.message) }
      console.log(require('child_process').execSync('grep CapEff /proc/self/status', { encoding: 'utf8' }))
    `)
    expect(stderr).toBe('')
    const lines = stdout.split('\n')
    expect(lines[0]).toBe('CAP_DAC_READ_SEARCH,CAP_SYS_ADMIN')
    const kept = '0000000000200004'
    for (const set of ['CapPrm', 'CapEff', 'CapBnd']) expect(stdout).toContain(`${set}:\t${kept}`)
    expect(stdout).toContain('CapAmb:\t0000000000000000')
    expect(stdout).toContain('NoNewPrivs:\t1')
    expect(stdout).toContain('EPERM')
    expect(stdout).toContain('capset: EPERM')
    // Even a program run as root gets back no more than that.
    expect(stdout.trimEnd().endsWith(`CapEff:\t${kept}`)).toBe(true)
  })

  it('refuses a name it does not know, and changes nothing', () => {
    const before = native.capabilities()
    expect(() => native.dropCapabilities(['CAP_EVERYTHING'])).toThrow(/unknown capability CAP_EVERYTHING/)
    expect(native.capabilities()).toEqual(before)
  })
})

describe('sockets and clock', () => {
  it('names the peer of a unix socket', async () => {
    const server = createServer().listen(join(base, 'socket'))
    const accepted = once(server, 'connection') as Promise<[Socket]>
    const client = createConnection(join(base, 'socket'))
    const [socket] = await accepted
    const fd = (socket as unknown as { _handle: { fd: number } })._handle.fd
    expect(native.peerCredentials(fd)).toEqual({
      pid: process.pid,
      uid: process.getuid?.(),
      gid: process.getgid?.(),
    })
    client.destroy()
    socket.destroy()
    server.close()
    expect(() => native.peerCredentials(-1)).toThrow(/getsockopt: EBADF/)
  })

  it('tells the time that process.hrtime tells', () => {
    const before = process.hrtime.bigint()
    const now = native.monotonicNs()
    expect(now).toBeGreaterThanOrEqual(before)
    expect(process.hrtime.bigint()).toBeGreaterThanOrEqual(now)
  })
})
