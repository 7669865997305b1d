// SPDX-License-Identifier: MIT
import { readdirSync, readFileSync } from 'node:fs'
import { expect, it } from 'vitest'
import { defaultConfig } from '../../../src/daemon/config.js'
import { parseConfig } from '../../../src/daemon/config-schema.js'

const read = (name: string) => readFileSync(new URL(`../../../packaging/${name}`, import.meta.url), 'utf8')

it('the example configuration shows the defaults', () => {
  expect(parseConfig(read('lowerwatch.toml'), 'lowerwatch.toml')).toEqual({ ...defaultConfig(), all: true })
})

it('what the example configuration has as comments is right too, and no key is missing in it', () => {
  const text = read('lowerwatch.toml').replace(/^# ((?:[\w-]+ = .*|\[.*\]))$/gm, '$1')
  const config = parseConfig(text, 'lowerwatch.toml')
  expect(Object.keys(config).filter((key) => config[key as keyof typeof config] === null)).toEqual([])
  const own = config.overlay.get('/merged') ?? {}
  expect(Object.entries(own).filter(([, value]) => value === undefined)).toEqual([])
})

// Each of these gives a service a mount namespace of its own, in which no overlay of the host would be seen to
// change. Source: systemd.exec(5), exec_needs_mount_namespace() in systemd.
const ownMountNamespace =
  /^(Private(Mounts|Tmp|Devices|Users|IPC)|Protect(System|Home|Proc|KernelTunables|KernelModules|KernelLogs|ControlGroups|Hostname)|ProcSubset|MountFlags|MountAPIVFS|(ReadWrite|ReadOnly|Inaccessible|Exec|NoExec|Bind|BindReadOnly)Paths|TemporaryFileSystem|Root\w+|DynamicUser|LogNamespace|NetworkNamespacePath)=/m

it('the systemd unit stays in the mount namespace of the host', () => {
  const unit = read('lowerwatch.service')
  expect(unit).toMatch(/^Type=notify$/m)
  expect(unit).toMatch(/^ExecReload=/m)
  expect(unit).not.toMatch(ownMountNamespace)
})

it.each(['core', 'probe', 'sys', 'watch'])('native/%s/all.cc has every file of its folder', (folder) => {
  const at = new URL(`../../../native/${folder}/`, import.meta.url)
  const named = [...readFileSync(new URL('all.cc', at), 'utf8').matchAll(/^#include "(.*)"$/gm)].map(
    ([, name]) => name,
  )
  const files = readdirSync(at).filter((name) => name.endsWith('.cc') && name !== 'all.cc')
  expect(named).toEqual(files.sort().map((name) => `${folder}/${name}`))
})
