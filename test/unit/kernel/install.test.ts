// SPDX-License-Identifier: MIT

import { execFileSync } from 'node:child_process'
import { mkdir, mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { buildScript, confText, hookTexts } from '../../../src/kernel/module/dkms.js'
import { describeExchange } from '../../../src/kernel/module/install.js'
import { planSignature, signatureWanted } from '../../../src/kernel/module/sign.js'
import { Target } from '../../../src/kernel/module/target.js'
import { describeUse, overlaysIn } from '../../../src/kernel/module/users.js'

const release = '6.12.95-test'

async function machine(files: Record<string, string | Buffer> = {}) {
  const root = await mkdtemp(join(tmpdir(), 'lowerwatch-target-'))
  for (const [path, content] of Object.entries({
    [`/lib/modules/${release}/modules.dep`]:
      'kernel/fs/overlayfs/overlay.ko.xz:\nkernel/fs/xfs/xfs.ko: a.ko\n',
    ...files,
  })) {
    await mkdir(dirname(root + path), { recursive: true })
    await writeFile(root + path, content)
  }
  const target = await Target.open(`${root}/`, release)
  return { root, target, [Symbol.asyncDispose]: () => rm(root, { recursive: true, force: true }) }
}

describe('a machine in a directory', () => {
  it('has to have the kernel', async () => {
    await using there = await machine()
    await expect(Target.open(there.root, '6.12.96-test')).rejects.toMatchObject({
      code: 'KERNEL',
      exitCode: 2,
    })
  })

  it('names the module that is loaded for overlayfs', async () => {
    await using there = await machine()
    expect(await there.target.resolved()).toBe(`/lib/modules/${release}/kernel/fs/overlayfs/overlay.ko.xz`)
    await using without = await machine({
      [`/lib/modules/${release}/modules.dep`]: 'kernel/x/myoverlay.ko.gz:\n',
    })
    expect(await without.target.resolved()).toBeNull()
  })

  it('keeps the mode of what is replaced, and nothing of what is removed', async () => {
    await using there = await machine()
    const { root, target } = there
    await target.replace('/etc/kernel/postinst.d/dkms-lowerwatch', 'x', 0o755)
    expect((await stat(`${root}/etc/kernel/postinst.d/dkms-lowerwatch`)).mode & 0o777).toBe(0o755)
    expect(await readdir(`${root}/etc/kernel/postinst.d`)).toEqual(['dkms-lowerwatch'])
    await target.replace(target.modulePath, 'x')
    await target.remove(target.modulePath)
    expect(await readdir(`${root}/lib/modules/${release}`)).toEqual(['modules.dep'])
    // Others are there: then the directory stays.
    await target.replace(target.modulePath, 'x')
    await target.replace(`/lib/modules/${release}/updates/other.ko`, 'x')
    await target.remove(target.modulePath)
    expect(await readdir(`${root}/lib/modules/${release}/updates`)).toEqual(['other.ko'])
  })

  it('remembers what was installed', async () => {
    await using there = await machine()
    expect(await there.target.installed()).toBeNull()
    const module = `/lib/modules/${release}/updates/dkms/overlay.ko.xz`
    const installed = { release, module, sha256: null, source: '6.12.95', certificate: null }
    await there.target.remember({ ...installed, method: 'dkms' })
    expect(await there.target.installed()).toEqual({ ...installed, method: 'dkms' })
    await there.target.forget()
    expect(await there.target.installed()).toBeNull()
    expect(await readdir(`${there.root}/var/lib`)).toEqual([])
  })

  it('takes no record that an installation does not write', async () => {
    const module = `/lib/modules/${release}/updates/lowerwatch/overlay.ko`
    const good = { release, method: 'direct', module, sha256: 'x', source: '6.12.95', certificate: null }
    const dkms = module.replace('lowerwatch', 'dkms')
    for (const [record, taken] of [
      [good, true],
      [{ ...good, method: 'dkms', module: `${dkms}.zst` }, true],
      [{ ...good, method: 'dkms' }, false],
      [{ ...good, module: dkms }, false],
      [{ ...good, module: `/lib/modules/${release}/kernel/fs/overlayfs/overlay.ko` }, false],
      [{ ...good, module: '/lib/modules/x/updates/lowerwatch/../../../../../etc/passwd' }, false],
      [{ ...good, method: 'rm' }, false],
      [{ ...good, release: '6.12.95-other' }, false],
      [{ ...good, source: '6\x1b[2J' }, false],
      [{ ...good, certificate: 7 }, false],
      ['null', false],
      ['{"release":', false],
    ] as const) {
      await using there = await machine({
        [`/var/lib/lowerwatch/modules/${release}.json`]:
          typeof record === 'string' ? record : JSON.stringify(record),
      })
      if (taken) expect(await there.target.installed()).toEqual(record)
      else
        await expect(there.target.installed()).rejects.toMatchObject({
          code: 'KERNEL',
          exitCode: 2,
          hint: expect.stringMatching(/^delete it/),
        })
    }
  })
})

describe('a signature', () => {
  const config = (...options: string[]) => new Map(options.map((option) => [option, 'y']))
  const secureBoot = '/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c'
  const mok = '/sys/firmware/efi/efivars/MokListRT-605dab50-e046-4300-abb6-3dd810dd8b23'
  const value = (...bytes: number[]) => Buffer.from([6, 0, 0, 0, ...bytes])

  it('is wanted with Secure Boot, or by a kernel that loads no others', async () => {
    await using plain = await machine()
    expect(await signatureWanted(plain.target, config('MODULE_SIG'))).toBeNull()
    expect(await signatureWanted(plain.target, config('MODULE_SIG', 'MODULE_SIG_FORCE'))).toMatch(/only/)
    await using off = await machine({ [secureBoot]: value(0) })
    expect(await signatureWanted(off.target, config('MODULE_SIG'))).toBeNull()
    await using on = await machine({ [secureBoot]: value(1) })
    expect(await signatureWanted(on.target, config('MODULE_SIG'))).toBe('Secure Boot is on')
    expect(await signatureWanted(on.target, config())).toBeNull()
  })

  it('is made with the key of the machine, if the firmware knows it', async () => {
    const certificate = Buffer.from('a certificate in DER')
    const pem = `-----BEGIN CERTIFICATE-----\n${certificate.toString('base64')}\n-----END CERTIFICATE-----\n`
    const key = { '/var/lib/shim-signed/mok/MOK.priv': 'key', '/var/lib/shim-signed/mok/MOK.der': pem }
    const on = { [secureBoot]: value(1), ...key }
    await using enrolled = await machine({ ...on, [mok]: value(1, 2, ...certificate, 3) })
    expect(await planSignature(enrolled.target, config('MODULE_SIG'))).toMatchObject({
      with: { key: `${enrolled.root}/var/lib/shim-signed/mok/MOK.priv` },
    })
    await using unknown = await machine({ ...on, [mok]: value(...certificate.subarray(1)) })
    await expect(planSignature(unknown.target, config('MODULE_SIG'))).rejects.toMatchObject({
      code: 'UNSUPPORTED_KERNEL',
      hint: expect.stringMatching(/^mokutil --import \S+\/MOK\.der, reboot/),
    })
  })

  it('is not made where nothing asks for it, also with a key there', async () => {
    await using there = await machine({
      '/var/lib/dkms/mok.key': 'key',
      '/var/lib/dkms/mok.pub': 'certificate',
    })
    expect(await planSignature(there.target, config('MODULE_SIG'))).toMatchObject({ with: null })
  })
})

describe('the package for DKMS', () => {
  it('builds by this program, for kernels with a series', () => {
    const text = confText('1.2.3', ['6.12', '7.2'])
    const script = `${text}\nkernelver=x; for k in 6.12.95-x 7.2.1 6.1.2 6.120.1 7.20.1; do [[ $k =~ $BUILD_EXCLUSIVE_KERNEL ]] && echo "$k"; done; echo "$PACKAGE_VERSION \${MAKE[0]} \${BUILT_MODULE_NAME[0]} [$AUTOINSTALL]"`
    const said = execFileSync('bash', ['-c', `kernelver=R; ${script}`], { encoding: 'utf8' })
    expect(said).toBe('6.12.95-x\n7.2.1\n1.2.3 ./build R overlay []\n')
  })

  it('has scripts that a shell takes, with odd paths', () => {
    for (const text of [buildScript("/a b'c"), ...hookTexts("/a b'c").values()]) {
      execFileSync('sh', ['-n'], { input: text })
      expect(text).toContain(`XDG_CACHE_HOME='/a b'\\''c' exec `)
    }
  })

  it('has hooks that never fail a kernel package', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'lowerwatch-hook-'))
    try {
      for (const [path, text] of hookTexts(folder)) {
        expect(path).toMatch(/^\/etc\/kernel\/\w+\.d\/dkms-lowerwatch$/)
        await writeFile(
          `${folder}/hook`,
          text.replaceAll('/lib/modules/', `${folder}/`).replace(/exec '[^']+'/, 'exec false'),
        )
        const run = (...argv: string[]) => execFileSync('sh', [`${folder}/hook`, ...argv], { stdio: 'pipe' })
        run()
        run('6.12.95-none')
        await mkdir(`${folder}/6.12.95-x`, { recursive: true })
        await writeFile(`${folder}/6.12.95-x/modules.dep`, '')
        run('6.12.95-x')
      }
    } finally {
      await rm(folder, { recursive: true, force: true })
    }
  })
})

describe('what holds a module', () => {
  it('are the overlays of a mount table', () => {
    const table = [
      '36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue',
      '37 36 0:40 / /merged\\040dir rw - overlay overlay rw,lowerdir=/a',
      '38 36 0:41 / /overlay rw - tmpfs overlay rw',
      '',
    ].join('\n')
    expect(overlaysIn(table)).toEqual(['/merged dir'])
  })

  it('is said in lines: mounts, who uses them, other modules, or that nobody is to be seen', () => {
    const processes = Array.from({ length: 7 }, (_, i) => ({ pid: i + 1, command: 'sh' }))
    const mounts = [
      { mountPoint: '/m', namespace: null, processes: [] },
      { mountPoint: '/n', namespace: 'mnt:[1]', processes },
    ]
    expect(describeUse({ references: 3, mounts, modules: ['other'] })).toEqual([
      'mounted at /m',
      'mounted at /n in mnt:[1]: 1 sh, 2 sh, 3 sh, 4 sh, 5 sh, and 2 more',
      'module other',
    ])
    expect(describeUse({ references: 1, mounts: [], modules: [] })).toEqual([
      expect.stringMatching(/^1 references/),
    ])
  })

  it('is followed by what a reboot changes', () => {
    const use = { references: 1, mounts: [], modules: ['x'] }
    expect(describeExchange({ loaded: 'stock', use }, 'patched', {})).toEqual([
      'the stock overlayfs is in use and stays loaded:',
      '  module x',
      expect.stringMatching(/^a reboot loads the patched one/),
    ])
    expect(describeExchange(null, 'stock', { release }).join('\n')).toMatch(
      /next boot of Linux 6\.12\.95-test loads the stock overlayfs\n.*lower_changes fails/,
    )
    expect(describeExchange({ loaded: 'none', use: null }, 'patched', {})).toEqual([
      expect.stringMatching(/next mount loads the patched one$/),
    ])
  })
})
