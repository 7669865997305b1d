// SPDX-License-Identifier: MIT

import { execFileSync } from 'node:child_process'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { compareDebian, sourcesFor } from '../../../src/kernel/apt.js'

describe('compareDebian', () => {
  const sorted = [
    '6.12.94-1',
    '6.12.95-1~bpo12+1',
    '6.12.95-1',
    '6.12.95-1+deb13u1',
    '6.12.107-1',
    '7.2~rc7-1~exp1',
    '7.2-1',
    '7.2.9-1~bpo13+1',
    '7.2.13-1',
    '7.2.13-2',
    '7.2.13-10',
  ]

  it('sorts releases, back-ports and candidates', () => {
    expect([...sorted].reverse().sort(compareDebian)).toEqual(sorted)
  })

  it('is of one opinion with dpkg', ({ skip }) => {
    try {
      execFileSync('dpkg', ['--version'], { stdio: 'ignore' })
    } catch {
      skip('dpkg is not installed')
    }
    for (let i = 1; i < sorted.length; i++)
      execFileSync('dpkg', ['--compare-versions', sorted[i - 1]!, 'lt', sorted[i]!])
  })
})

describe('the archive of the machine', () => {
  /** Files of /etc/apt; in them `HERE` is where they are. */
  async function configured(files: Record<string, string>) {
    const etc = await mkdtemp(join(tmpdir(), 'lowerwatch-apt-'))
    await mkdir(`${etc}/sources.list.d`)
    for (const [name, text] of Object.entries(files))
      await writeFile(`${etc}/${name}`, text.replaceAll('HERE', etc))
    return { etc, [Symbol.asyncDispose]: () => rm(etc, { recursive: true, force: true }) }
  }
  const suites = expect.stringMatching(/^Suites: bookworm trixie .*experimental$/)
  const key = `
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mDMEZ
 -----END PGP PUBLIC KEY BLOCK-----`

  it('is found behind a list of mirrors, and not that of the security updates', async () => {
    await using apt = await configured({
      'debian.txt': '# the nearest\nhttps://mirror.example.org/debian\tpriority:1\n',
      'security.txt': 'https://mirror.example.org/debian-security\n',
      'sources.list.d/a.sources':
        'Types: deb\nURIs: mirror+file://HERE/gone.txt\nSuites: bookworm\nComponents: main\n\n' +
        'Types: deb\nURIs: mirror+file://HERE/security.txt\nSuites: bookworm-security\nComponents: main\n\n' +
        'Types: deb deb-src\nURIs: mirror+file://HERE/debian.txt\nSuites: bookworm\nComponents: main\n',
    })
    expect((await sourcesFor(apt.etc)).split('\n')).toEqual([
      'Types: deb',
      `URIs: mirror+file://${apt.etc}/debian.txt`,
      suites,
      'Components: main',
      '',
    ])
    await writeFile(`${apt.etc}/sources.list`, `deb mirror+file:${apt.etc}/debian.txt bookworm main\n`)
    expect(await sourcesFor(apt.etc)).toContain(`URIs: mirror+file:${apt.etc}/debian.txt\n`)
  })

  it('keeps its key: a file, several, or one in the configuration itself', async () => {
    const stanza = (signedBy: string) =>
      `Types: deb\nSigned-By:${signedBy}\n# a comment\nURIs: https://mirror.example.org/debian\nSuites: x\nComponents: main\n`
    for (const [signedBy, written] of [
      [' /usr/share/keyrings/k.gpg', 'Signed-By: /usr/share/keyrings/k.gpg'],
      [' /k.gpg\n /l.gpg', 'Signed-By: /k.gpg\n /l.gpg'],
      [key, `Signed-By: ${key}`],
    ] as const) {
      await using apt = await configured({ 'sources.list.d/debian.sources': stanza(signedBy) })
      expect(await sourcesFor(apt.etc)).toMatch(new RegExp(`\nComponents: main\n${written}\n$`))
    }
    await using apt = await configured({
      'sources.list': 'deb [arch=amd64 signed-by=/k.gpg] https://mirror.example.org/debian bookworm main\n',
    })
    expect(await sourcesFor(apt.etc)).toMatch(/\nSigned-By: \/k\.gpg\n$/)
  })

  it('is said to be missing', async () => {
    await using apt = await configured({
      'sources.list.d/a.sources': 'Types: deb\nEnabled: no\nURIs: https://mirror.example.org/debian\n',
    })
    await expect(sourcesFor(apt.etc)).rejects.toMatchObject({ code: 'KERNEL' })
  })

  it('is written as apt reads it', async ({ skip }) => {
    try {
      execFileSync('apt-get', ['--version'], { stdio: 'ignore' })
    } catch {
      skip('apt is not installed')
    }
    await using apt = await configured({
      'list.txt': 'https://mirror.example.org/debian\n',
      'sources.list.d/debian.sources': `Types: deb\nURIs: mirror+file:HERE/list.txt\nSuites: x\nComponents: main\nSigned-By:${key}\n`,
    })
    await writeFile(`${apt.etc}/machine.sources`, await sourcesFor(apt.etc))
    await mkdir(`${apt.etc}/lists/partial`, { recursive: true })
    const options = {
      'Dir::Etc::sourcelist': `${apt.etc}/machine.sources`,
      'Dir::Etc::sourceparts': '/dev/null',
      'Dir::State': apt.etc,
    }
    const argv = Object.entries(options).flatMap(([key, value]) => ['-o', `${key}=${value}`])
    const uris = execFileSync('apt-get', [...argv, '--print-uris', 'update'], { encoding: 'utf8' })
    expect(uris).toMatch(/^'mirror\+file:\S+\/list\.txt\/dists\/trixie\/InRelease' /m)
  })
})
