// SPDX-License-Identifier: MIT

import { execFileSync, spawnSync } from 'node:child_process'
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { obtainModule } from '../../src/kernel/module/commands.js'
import { type InstallOptions, installModule, removeModule } from '../../src/kernel/module/install.js'
import { type Image, modinfo, obtainImage } from './image.js'
import { contentsOf, makeMachine, modprobeTakes } from './machine.js'
import { release } from './releases.js'

const ours = `/lib/modules/${release}/updates/lowerwatch/overlay.ko`
const stock = new RegExp(`^/lib/modules/${release.replace(/[+.]/g, '\\$&')}/kernel/fs/overlayfs/overlay\\.ko`)

describe(`kernel module install and remove, on a machine with Linux ${release} that is not running`, () => {
  let image: Image
  let module: string
  let keys: string

  beforeAll(async () => {
    image = await obtainImage(release)
    module = (await obtainModule({ release })).module
    keys = await mkdtemp(join(tmpdir(), 'lowerwatch-keys-'))
    for (const name of ['machine', 'other']) makeKey(`${keys}/${name}`)
  })
  afterAll(() => rm(keys, { recursive: true, force: true }))

  /** A key to throw away, and its certificate as mokutil takes it. */
  function makeKey(path: string): void {
    const options = ['req', '-new', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-outform', 'DER']
    const named = ['-subj', '/CN=lowerwatch test', '-keyout', `${path}.key`, '-out', `${path}.der`]
    execFileSync('openssl', [...options, ...named], { stdio: 'pipe' })
  }

  const install = (root: string, options: InstallOptions = {}) => installModule({ release, root, ...options })

  it('puts the module before the one of the kernel, and takes it away without a trace', async () => {
    await using machine = await makeMachine(image)
    const { root } = machine
    const before = await contentsOf(root)
    expect(modprobeTakes(root, release)).toMatch(stock)
    expect(await install(root)).toMatchObject({
      method: 'direct',
      module: ours,
      certificate: null,
      running: null,
    })
    expect(modprobeTakes(root, release)).toBe(ours)
    expect(await readFile(root + ours)).toEqual(await readFile(module))
    // A second time is the same.
    const installed = await contentsOf(root)
    await install(root)
    expect(await contentsOf(root)).toEqual(installed)
    expect(installed.get('/etc/kernel/postinst.d/dkms-lowerwatch')).toContain('kernel module install')
    expect(await removeModule({ release, root })).toMatchObject({ removed: { module: ours } })
    expect(modprobeTakes(root, release)).toMatch(stock)
    expect(await contentsOf(root)).toEqual(before)
    expect(await removeModule({ release, root })).toMatchObject({ removed: null, running: null })
  })

  it('is refused where the distribution has made another kernel of that name, and changes nothing', async () => {
    await using machine = await makeMachine(image)
    const { root } = machine
    const [file] = [...(await contentsOf(root)).keys()].filter((name) => stock.test(name))
    // A module of the same name with another vermagic, as packed as the package's.
    const other = `${root}/overlay.ko`
    execFileSync('cp', [module, other])
    const bytes = await readFile(other, 'latin1')
    await writeFile(other, bytes.replace(/ preempt (?=mod_unload)/, ' PREEMPT '), 'latin1')
    expect(await readFile(other, 'latin1')).not.toBe(bytes)
    const packed = file!.endsWith('.xz')
    if (packed) execFileSync('xz', ['--check=crc32', other])
    execFileSync('mv', [packed ? `${other}.xz` : other, root + file!])
    const before = await contentsOf(root)
    await expect(install(root)).rejects.toMatchObject({
      code: 'UNSUPPORTED_KERNEL',
      exitCode: 2,
      hint: expect.stringMatching(/^vermagic: .*the module of the distribution has/),
    })
    expect(await contentsOf(root)).toEqual(before)
  })

  it.each(['etc/kernel/postinst.d', 'lib/modules', 'var/lib'])(
    'is refused where others can write in %s, and changes nothing',
    async (path) => {
      await using machine = await makeMachine(image)
      const { root } = machine
      await mkdir(`${root}/${path}`, { recursive: true })
      await chmod(`${root}/${path}`, 0o777)
      const before = await contentsOf(root)
      await expect(install(root)).rejects.toMatchObject({
        code: 'NOT_PERMITTED',
        exitCode: 2,
        message: `${root}/${path} can be written by everybody`,
      })
      expect(await contentsOf(root)).toEqual(before)
    },
  )

  it('is refused for a kernel that is not there, as a command with exit status 2', async () => {
    await using machine = await makeMachine(image)
    const { root } = machine
    const before = await contentsOf(root)
    const other = release.replace(/\d+/, '7').replace(/^7\.\d+/, '7.2')
    const argv = ['dist/cli/main.js', 'kernel', 'module', 'install', '--root', root, '--release', other]
    const done = spawnSync(process.execPath, argv, { encoding: 'utf8' })
    expect(done.stderr).toMatch(/^lowerwatch: Linux \S+ is not installed in /)
    expect(done.status).toBe(2)
    expect(await contentsOf(root)).toEqual(before)
  })

  it('signs with a key that is given', async () => {
    await using machine = await makeMachine(image)
    const { root } = machine
    const [key, cert] = [`${keys}/machine.key`, `${keys}/machine.der`]
    expect(await install(root, { key, cert })).toMatchObject({ certificate: cert })
    expect(modinfo(root + ours, 'signer')).toEqual(['lowerwatch test'])
    expect(await isSignedBy(root + ours, cert)).toBe(true)
    expect(await isSignedBy(root + ours, `${keys}/other.der`)).toBe(false)
    await expect(install(root, { key })).rejects.toMatchObject({ code: 'USAGE' })
    await expect(install(root, { key: '/none', cert })).rejects.toMatchObject({ code: 'NO_SUCH_PATH' })
  })

  describe('with Secure Boot', () => {
    const variable = async (root: string, name: string, value: Buffer | number[]) => {
      const path = `${root}/sys/firmware/efi/efivars/${name}`
      await mkdir(dirname(path), { recursive: true })
      await writeFile(path, Buffer.concat([Buffer.from([6, 0, 0, 0]), Buffer.from(value)]))
    }
    const secureBoot = (root: string) =>
      variable(root, 'SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c', [1])
    const mok = 'MokListRT-605dab50-e046-4300-abb6-3dd810dd8b23'
    async function giveKey(root: string): Promise<void> {
      await mkdir(`${root}/var/lib/dkms`, { recursive: true })
      execFileSync('cp', [`${keys}/machine.key`, `${root}/var/lib/dkms/mok.key`])
      execFileSync('cp', [`${keys}/machine.der`, `${root}/var/lib/dkms/mok.pub`])
    }

    it('signs with the key of the machine, when that is enrolled', async () => {
      await using machine = await makeMachine(image)
      const { root } = machine
      await secureBoot(root)
      await giveKey(root)
      // EFI_SIGNATURE_LIST and EFI_SIGNATURE_DATA come before the certificate.
      await variable(root, mok, Buffer.concat([Buffer.alloc(44, 7), await readFile(`${keys}/machine.der`)]))
      expect(await install(root)).toMatchObject({ certificate: `${root}/var/lib/dkms/mok.pub` })
      expect(await isSignedBy(root + ours, `${keys}/machine.der`)).toBe(true)
    })

    it('changes nothing and says how to enroll, when it is not', async () => {
      await using machine = await makeMachine(image)
      const { root } = machine
      await secureBoot(root)
      const expected = async (message: RegExp, hint: RegExp) => {
        const before = await contentsOf(root)
        await expect(install(root)).rejects.toMatchObject({
          code: 'UNSUPPORTED_KERNEL',
          exitCode: 2,
          message: expect.stringMatching(message),
          hint: expect.stringMatching(hint),
        })
        expect(await contentsOf(root)).toEqual(before)
      }
      await expected(/Secure Boot is on, and .* no key/, /^openssl req .*; mokutil --import .*reboot/)
      await giveKey(root)
      await expected(/is not enrolled$/, /^mokutil --import \S+mok\.pub, reboot/)
      await variable(root, mok, await readFile(`${keys}/other.der`))
      await expected(/is not enrolled$/, /^mokutil/)
    })

    it('asks for nothing, when shim does not validate', async () => {
      await using machine = await makeMachine(image)
      await secureBoot(machine.root)
      await variable(machine.root, 'MokSBStateRT-605dab50-e046-4300-abb6-3dd810dd8b23', [1])
      expect(await install(machine.root)).toMatchObject({ certificate: null })
    })
  })

  /** Checks the signature at the end of a module as the kernel does. Source: kernel/module/signing.c, module_signature.h. */
  async function isSignedBy(file: string, certificate: string): Promise<boolean> {
    const bytes = await readFile(file)
    const magic = '~Module signature appended~\n'
    expect(bytes.subarray(-magic.length).toString('latin1')).toBe(magic)
    const at = bytes.length - magic.length
    const size = bytes.readUInt32BE(at - 4)
    const end = at - 12
    const work = await mkdtemp(join(tmpdir(), 'lowerwatch-signature-'))
    try {
      await writeFile(`${work}/content`, bytes.subarray(0, end - size))
      await writeFile(`${work}/signature`, bytes.subarray(end - size, end))
      const pem = execFileSync('openssl', ['x509', '-inform', 'DER', '-in', certificate])
      await writeFile(`${work}/certificate`, pem)
      const signature = ['-inform', 'DER', '-in', `${work}/signature`, '-content', `${work}/content`]
      const by = ['-certfile', `${work}/certificate`, '-CAfile', `${work}/certificate`, '-purpose', 'any']
      const argv = ['cms', '-verify', '-binary', ...signature, ...by, '-out', '/dev/null']
      return spawnSync('openssl', argv, { stdio: 'pipe' }).status === 0
    } finally {
      await rm(work, { recursive: true, force: true })
    }
  }
})
