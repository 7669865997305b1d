// SPDX-License-Identifier: MIT

import { beforeAll, describe, expect, it } from 'vitest'
import { obtainModule } from '../../src/kernel/module/commands.js'
import { other, runOnACopy } from './copy.js'
import { type Image, obtainImage, obtainPackage } from './image.js'
import { release } from './releases.js'

const reason = process.getuid?.() === 0 ? '' : 'mounts a copy of this machine: needs root'

describe.skipIf(reason !== '')(`on a copy of this machine${reason && ` (skipped: ${reason})`}`, () => {
  let image: Image
  let dkms: string

  beforeAll(async () => {
    image = await obtainImage(release)
    dkms = (await obtainPackage('dkms')).root
    for (const wanted of [release, other]) await obtainModule({ release: wanted })
  })

  const run = (lines: string[], { withDkms }: { withDkms: boolean }) =>
    runOnACopy({ release, other, image, dkms: withDkms ? dkms : null }, lines)

  it('DKMS builds, installs and forgets it; kernels that come and go have it', () => {
    const files =
      'find /usr/src /var/lib/dkms /var/lib/lowerwatch /etc/kernel -name "*lowerwatch*" 2>/dev/null | sort'
    const [
      before,
      install,
      after,
      status,
      hooks,
      update,
      updated,
      known,
      gone,
      kept,
      unknown,
      remove,
      left,
      end,
    ] = run(
      [
        'shows $R',
        'lowerwatch install --release $R',
        'shows $R',
        'dkms status',
        'ls /etc/kernel/*/dkms-lowerwatch',
        '/etc/kernel/postinst.d/dkms-lowerwatch $OTHER',
        'shows $OTHER; modinfo -k $OTHER -F vermagic overlay',
        'dkms status',
        '/etc/kernel/prerm.d/dkms-lowerwatch $OTHER',
        'dkms status; ls /etc/kernel/*/dkms-lowerwatch',
        'mkdir /lib/modules/5.10.0-1-amd64; touch /lib/modules/5.10.0-1-amd64/modules.dep; ' +
          '/etc/kernel/postinst.d/dkms-lowerwatch 5.10.0-1-amd64',
        'lowerwatch remove --release $R',
        files,
        'shows $R; ls /lib/modules/$R | grep updates; dkms status',
      ],
      { withDkms: true },
    )
    expect(before).toMatchObject({ status: 0, output: expect.stringMatching(/\/kernel\/fs\/overlayfs\//) })
    expect(install).toMatchObject({
      status: 0,
      output: expect.stringMatching(/^installed .*\(dkms: by DKMS\)$/m),
    })
    expect(after!.output).toMatch(
      new RegExp(`/${release.replace(/[+.]/g, '\\$&')}/updates/dkms/overlay\\.ko`),
    )
    expect(status!.output).toMatch(/^lowerwatch-overlay\/\S+ .*: installed/m)
    expect(hooks!.output.split('\n')).toHaveLength(3)
    expect(update!.status).toBe(0)
    expect(updated!.output).toMatch(/\/updates\/dkms\/overlay\.ko/)
    expect(updated!.output.split('\n').at(-1)!.split(' ')[0]).toBe(other)
    expect(known!.output.match(/: installed/g)).toHaveLength(2)
    expect(gone!.status).toBe(0)
    expect(kept!.output.match(/: installed/g)).toHaveLength(1)
    expect(kept!.output.match(/dkms-lowerwatch/g)).toHaveLength(3)
    expect(unknown).toMatchObject({
      status: 0,
      output: expect.stringMatching(/keeps the overlayfs that it came with$/),
    })
    expect(remove).toMatchObject({
      status: 0,
      output: expect.stringMatching(/^modprobe takes \S+\/kernel\/fs\//m),
    })
    expect(left!.output).toBe('')
    expect(end!.output).toBe(before!.output)
  })

  it('a build that fails leaves the stock module, at an installation and at an update of the kernel', () => {
    const [broken, shown, status, install, update, still] = run(
      [
        // What DKMS takes after the dkms.conf of a package.
        "mkdir -p /etc/dkms; echo 'MAKE[0]=false' >/etc/dkms/lowerwatch-overlay.conf; lowerwatch install --release $R",
        'shows $R',
        'dkms status; ls /usr/src | grep lowerwatch; ls /var/lib/lowerwatch',
        'rm /etc/dkms/lowerwatch-overlay.conf; lowerwatch install --release $R',
        'echo "MAKE[0]=false" >/etc/dkms/lowerwatch-overlay.conf; /etc/kernel/postinst.d/dkms-lowerwatch $OTHER',
        'shows $R; lowerwatch status --release $OTHER',
      ],
      { withDkms: true },
    )
    expect(broken).toMatchObject({ status: 2, output: expect.stringMatching(/dkms install failed/) })
    expect(shown!.output).toMatch(/\/kernel\/fs\/overlayfs\//)
    expect(status!.output.replace(/^ls: .*$/m, '').trim()).toBe('')
    expect(install!.status).toBe(0)
    expect(update).toMatchObject({
      status: 0,
      output: expect.stringMatching(/keeps the overlayfs that it came with$/),
    })
    expect(still!.output).toMatch(/\/updates\/dkms\/overlay\.ko/)
    expect(still!.output).toMatch(/installed: no/)
  })

  it('without DKMS it is installed directly, and refused where depmod searches another directory first', () => {
    const [install, shown, update, remove, refused, left] = run(
      [
        'lowerwatch install --release $R',
        'shows $R; ls /etc/kernel/postinst.d',
        '/etc/kernel/postinst.d/dkms-lowerwatch $OTHER && shows $OTHER',
        'lowerwatch remove --release $OTHER; lowerwatch remove --release $R',
        'mkdir -p /etc/depmod.d; echo "search built-in updates" >/etc/depmod.d/first.conf; lowerwatch install --release $R',
        'shows $R; find /usr/src /var/lib /etc/kernel /lib/modules -name "*lowerwatch*"',
      ],
      { withDkms: false },
    )
    expect(install!.output).toMatch(
      /^installed \S+\/updates\/lowerwatch\/overlay\.ko \(direct: DKMS is not installed\)$/m,
    )
    expect(shown!.output).toMatch(/\/updates\/lowerwatch\/overlay\.ko\n[\s\S]*dkms-lowerwatch/)
    expect(update!.output).toMatch(/\/updates\/lowerwatch\/overlay\.ko$/)
    expect(remove!.output.match(/^removed /gm)).toHaveLength(2)
    expect(refused).toMatchObject({
      status: 2,
      output: expect.stringMatching(/modprobe would load .*depmod\.d/),
    })
    expect(left!.output).toMatch(/^\S+\/kernel\/fs\/overlayfs\/\S+$/)
  })
})
