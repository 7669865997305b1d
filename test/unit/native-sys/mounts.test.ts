// SPDX-License-Identifier: MIT
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { fromText } from '../../../src/bytes.js'
import { type FreshOverlay, type Mount, native } from '../../../src/native.js'
import { directories, lane, mount, mountLines, onMounts, scratch, tree, umount } from './kernel.js'

/** Everything that needs care in an option string. */
const hard = 'sp ace,com:ma\\back\nline\xff#'

onMounts('mounts', () => {
  const base = scratch()
  const on = lane()
  // Other test files mount in this namespace at the same time.
  const ours = () => mountLines().filter((line) => line.split(' ')[4]?.startsWith(base))
  const oursOf = (mounts: Mount[]) => mounts.filter((m) => m.mountPoint.startsWith(base))

  it('lists the same mounts from statmount and from mountinfo', async () => {
    const [lower, merged, bind, shared, slave] = directories(base, hard, 'merged', 'bind', 'shared', 'slave')
    const overlay = await native.freshOverlay(on, only([fromText(lower!), fromText(bind!)]))
    await native.attachMount(on, overlay, fromText(merged!), { beneath: false })
    mount('-t', 'tmpfs', '-o', 'nosuid,nodev,noexec,noatime', 'a b', shared!)
    mount('--make-shared', shared!)
    mount('--bind', '-o', 'ro', shared!, slave!)
    mount('--make-slave', slave!)
    mkdirSync(join(shared!, 'sub dir'))
    mount('--bind', join(shared!, 'sub dir'), bind!)
    const best = await native.listMounts(on)
    const text = await native.listMounts(on, { source: 'mountinfo' })
    expect(text.source).toBe('mountinfo')
    expect(oursOf(text.mounts)).toHaveLength(ours().length)
    expect(text.mounts.length).toBeGreaterThan(ours().length)
    if (best.source === 'mountinfo')
      process.stderr.write('not compared: this kernel has no complete statmount\n')
    const known = oursOf(best.mounts)
    expect(known.map((m) => ({ ...m, uniqueId: null }))).toEqual(oursOf(text.mounts))
    const byPoint = (point: string) => best.mounts.find((m) => m.mountPoint === fromText(point)) as Mount
    expect(byPoint(shared!)).toMatchObject({
      fsType: 'tmpfs',
      mountOptions: 'rw,nosuid,nodev,noexec,noatime',
    })
    expect(byPoint(shared!).propagation).toEqual([expect.stringMatching(/^shared:\d+$/)])
    expect(byPoint(slave!).propagation).toEqual([expect.stringMatching(/^master:\d+$/)])
    expect(byPoint(bind!).root).toBe('/sub dir')
    expect(byPoint(merged!).superOptions).toContain('sp\\040ace\\054com:ma\\134back\\012line')
    if (best.source === 'statmount') expect(new Set(known.map((m) => m.uniqueId)).size).toBe(known.length)
  })

  it('lists parents before children, also when a child is older', async () => {
    const [older, parent] = directories(base, 'older', 'parent')
    mount('-t', 'tmpfs', 'older', older!)
    mount('-t', 'tmpfs', 'parent', parent!)
    mkdirSync(join(parent!, 'child'))
    mount('--move', older!, join(parent!, 'child'))
    for (const options of [{}, { source: 'mountinfo' as const }]) {
      const { mounts } = await native.listMounts(on, options)
      const seen = new Set<number>()
      for (const m of mounts) {
        if (mounts.some((other) => other.id === m.parentId && other !== m)) expect(seen).toContain(m.parentId)
        seen.add(m.id)
      }
      expect(seen.size).toBe(mounts.length)
    }
  })

  it('reconfigures without changing one flag or option, and drops what was cached', async () => {
    const [lower, other, upper, work] = directories(base, 'rl', 'rl2', 'ru', 'rw')
    const stacks = {
      writable: [['nosuid,noatime', `lowerdir=${lower},upperdir=${upper},workdir=${work}`], false],
      'read-only mount with an upper': [
        ['ro,nodev', `lowerdir=${lower},upperdir=${upper}2,workdir=${work}2`],
        false,
      ],
      'no upper': [['ro,noexec', `lowerdir=${lower}:${other}`], true],
    } as const
    directories(base, 'ru2', 'rw2')
    for (const [title, [[flags, options], readOnly]] of Object.entries(stacks)) {
      const [merged] = directories(base, `m ${title}`)
      mount('-t', 'overlay', 'o', '-o', `${flags},${options}`, merged!)
      const overlay = await tree(on, merged!)
      const name = `appears-${title}`
      const before = ours()
      expect(existsSync(join(merged!, name)), title).toBe(false)
      writeFileSync(join(lower!, name), '')
      expect(existsSync(join(merged!, name)), title).toBe(false)
      expect(native.probeCached(overlay, '', [name])[0], title).toBe(1)
      expect(await native.reconfigure(on, [{ overlay, readOnly }]), title).toBeGreaterThan(0)
      expect(native.probeCached(overlay, '', [name])[0], title).toBe(0)
      expect(existsSync(join(merged!, name)), title).toBe(true)
      expect(ours(), title).toEqual(before)
      overlay.close()
      umount(merged!)
    }
  })

  it('cannot reconfigure an overlay without upper as if it had one, nor what is no mount', async () => {
    const [lower, other] = directories(base, 'el', 'el2')
    const overlay = await native.freshOverlay(on, only([lower!, other!]))
    await expect(native.reconfigure(on, [{ overlay, readOnly: false }])).rejects.toMatchObject({
      code: 'EROFS',
    })
    overlay.close()
    const plain = await native.openTree(on, '/dev/null', { clone: false })
    await expect(native.reconfigure(on, [{ overlay: plain, readOnly: false }])).rejects.toMatchObject({
      syscall: 'fspick',
    })
    plain.close()
    await expect(async () => native.reconfigure(on, [{ overlay: plain, readOnly: true }])).rejects.toThrow(
      'the Handle is closed',
    )
    await expect(async () => native.reconfigure(on, undefined as never)).rejects.toThrow('expected an array')
    await expect(async () => native.reconfigure(on, [1 as never])).rejects.toThrow('expected a Handle')
  })

  it('reconfigures with an option, and says which one is refused', async () => {
    const [lower, other] = directories(base, 'ol', 'ol2')
    const overlay = await native.freshOverlay(on, only([lower!, other!]))
    // Longer than fsconfig(2) takes: before 6.5 overlayfs refuses nothing at this point.
    const options: [string, string][] = [['index', 'x'.repeat(256)]]
    await native.statAt(on, overlay, 'absent')
    const reconfigured = native.reconfigure(on, [{ overlay, readOnly: true, options }])
    await expect(reconfigured).rejects.toThrow(/^fsconfig: EINVAL: .*\(index=x+/)
    expect(native.probeCached(overlay, '', ['absent'])[0], 'nothing was done').toBe(1)
    overlay.close()
  })

  it('reconfigures several, or none when one of them cannot be', async () => {
    const [lower, other, more] = directories(base, 'rl', 'rl2', 'rl3')
    const overlays = [
      await native.freshOverlay(on, only([lower!, other!])),
      await native.freshOverlay(on, only([lower!, more!])),
    ]
    const cached = async () => {
      for (const overlay of overlays) await native.statAt(on, overlay, 'absent')
      return overlays.map((overlay) => native.probeCached(overlay, '', ['absent'])[0])
    }
    const now = () => overlays.map((overlay) => native.probeCached(overlay, '', ['absent'])[0])
    const all = overlays.map((overlay) => ({ overlay, readOnly: true }))
    expect(await cached()).toEqual([1, 1])
    expect(await native.reconfigure(on, all)).toBeGreaterThan(0)
    expect(now()).toEqual([0, 0])
    const plain = await native.openTree(on, '/dev/null', { clone: false })
    expect(await cached()).toEqual([1, 1])
    const withPlain = native.reconfigure(on, [...all, { overlay: plain, readOnly: true }])
    await expect(withPlain).rejects.toMatchObject({ syscall: 'fspick' })
    expect(now()).toEqual([1, 1])
    for (const handle of [...overlays, plain]) handle.close()
  })

  it('attaches beneath what is mounted, and detaches the top', async () => {
    const [a, b, empty, point] = directories(base, 'swap-a', 'swap-b', 'swap-c', 'swap-point')
    writeFileSync(join(a!, 'first'), '')
    writeFileSync(join(b!, 'second'), '')
    const first = await native.freshOverlay(on, only([a!, empty!]))
    await native.attachMount(on, first, point!, { beneath: false })
    expect(readdirSync(point!)).toEqual(['first'])
    const second = await native.freshOverlay(on, only([b!, empty!]))
    await native.attachMount(on, second, point!, { beneath: true })
    expect(readdirSync(point!)).toEqual(['first'])
    await native.detachMount(on, point!)
    expect(readdirSync(point!)).toEqual(['second'])
    await native.detachMount(on, point!)
    expect(readdirSync(point!)).toEqual([])
    await expect(native.detachMount(on, point!)).rejects.toMatchObject({ code: 'EINVAL', syscall: 'umount2' })
    first.close()
    second.close()
  })

  for (const poll of [false, true]) {
    it(`tells of mounts that come and go, once for many, by ${poll ? 'poll' : 'fanotify'}`, () => {
      const [point] = directories(base, 'watched')
      const script = `
        const native = require('node-gyp-build')(${JSON.stringify(process.cwd())})
        const run = (...args) => require('child_process').execFileSync(args[0], args.slice(1))
        const point = ${JSON.stringify(point)}
        let calls = 0, called
        const watch = new native.MountWatch(() => { calls++; called?.() }, { poll: ${poll} })
        const after = (change) => new Promise((resolve) => { called = resolve; change() })
        const on = () => run('mount', '-t', 'tmpfs', 'w', point)
        const off = () => run('umount', point)
        // The watch does not keep the process alive.
        const alive = setInterval(() => {}, 1000)
        ;(async () => {
          console.log(watch.source, watch.reason)
          await after(on)
          await after(off)
          console.log(calls)
          await after(() => { for (let i = 0; i < 5; i++) { on(); off() } })
          console.log(calls)
          watch.close()
          watch.close()
          on()
          off()
          setTimeout(() => { console.log(calls); clearInterval(alive) }, 20)
        })()`
      // A namespace of its own: nobody else's mounts are told here.
      const args = ['-m', '--propagation', 'private', process.execPath, '-e', script]
      const { stdout, stderr } = spawnSync('unshare', args, { encoding: 'utf8', timeout: 20_000 })
      const [source, ...counts] = stdout.trim().split('\n')
      expect(stderr).toBe('')
      expect(source).toMatch(poll ? /^poll asked for$/ : /^fanotify|poll fanotify_/)
      expect(counts).toEqual(['2', '3', '3'])
    })
  }

  it('drops caches by the switch of the machine', async () => {
    // The switch itself would take what every other test has cached: a file lies over it here.
    const file = join(base, 'drop_caches')
    writeFileSync(file, '')
    mount('--bind', file, '/proc/sys/vm/drop_caches')
    await native.dropCaches(on)
    umount('/proc/sys/vm/drop_caches')
    expect(readFileSync(file, 'utf8')).toBe('2')
  })
})

onMounts('fresh overlays', () => {
  const base = scratch()
  const on = lane()

  const listed = async (overlay: FreshOverlay) => {
    const mounted = await native.freshOverlay(on, overlay)
    const names = (await native.readDirectory(on, mounted, '')).map((entry) => entry.name).sort()
    mounted.close()
    return names
  }

  for (const oneString of [false, true]) {
    const how = oneString ? 'as one string' : 'one by one'

    it(`stacks three lowers with hard names, uppermost first, given ${how}`, async () => {
      const names = [`1${hard}`, '2\\:', `3${'long'.repeat(40)}/${'path'.repeat(40)}`]
      const lower = directories(base, ...names)
      for (const [i, layer] of lower.entries()) {
        writeFileSync(join(layer, `only-${i}`), '')
        writeFileSync(join(layer, 'size'), 'x'.repeat(i + 1))
      }
      const overlay = { ...only(lower.map(fromText)), oneString }
      expect(await listed(overlay)).toEqual(['only-0', 'only-1', 'only-2', 'size'])
      const mounted = await native.freshOverlay(on, overlay)
      expect(await native.statAt(on, mounted, 'size')).toMatchObject({ sizeBytes: 1n })
      mounted.close()
    })

    it(`takes a writable upper with hard names, given ${how}`, async () => {
      const directory = `${hard}${'long'.repeat(40)}/${'p,th\\'.repeat(30)}${oneString}`
      const [lower, upper, work, point] = directories(base, 'wl', `${directory}/u`, `${directory}/w`, 'wm')
      const mounted = await native.freshOverlay(on, {
        ...only([lower!]),
        upper: { upper: fromText(upper!), work: fromText(work!) },
        oneString,
      })
      await native.attachMount(on, mounted, point!, { beneath: false })
      writeFileSync(join(point!, 'written'), '')
      expect(readdirSync(upper!)).toEqual(['written'])
      mounted.close()
      umount(point!)
    })

    it(`hides a data-only layer but reaches its files, given ${how}`, async () => {
      const [lower, data] = directories(base, 'meta', 'data')
      writeFileSync(join(lower!, 'shown'), '')
      writeFileSync(join(data!, 'hidden'), '')
      const overlay = {
        ...only([lower!]),
        dataOnly: [data!],
        options: [['metacopy', 'on']] as [string, string][],
        oneString,
      }
      expect(await listed(overlay)).toEqual(['shown'])
    })
  }

  it('is an oracle for a live overlay: its upper as the topmost lower', async () => {
    const [lower, upper, work, merged] = directories(base, 'ol', 'ou', 'ow', 'om')
    writeFileSync(join(lower!, 'gone'), '')
    mount('-t', 'overlay', 'o', '-o', `lowerdir=${lower},upperdir=${upper},workdir=${work}`, merged!)
    const live = await tree(on, merged!)
    writeFileSync(join(merged!, 'copied'), '')
    await native.removeTree(on, live, 'gone', { dryRun: false })
    expect(await listed(only([upper!, lower!]))).toEqual(['copied'])
    live.close()
  })

  it('is attached with the attributes asked for, and read-only when asked to', async () => {
    const [lower, upper, work, point] = directories(base, 'al', 'au', 'aw', 'am')
    const mounted = await native.freshOverlay(on, {
      ...only([lower!]),
      upper: { upper: upper!, work: work! },
      options: [['userxattr', null]],
      // MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOATIME
      mountAttributes: 0x2 | 0x4 | 0x10,
      readOnly: true,
    })
    await native.attachMount(on, mounted, point!, { beneath: false })
    const { mounts } = await native.listMounts(on)
    const entry = mounts.find((m) => m.mountPoint === point)
    expect(entry).toMatchObject({
      mountOptions: 'rw,nosuid,nodev,noatime',
      superOptions: expect.stringMatching(/^ro,.*userxattr/),
    })
    expect(() => writeFileSync(join(point!, 'x'), '')).toThrow(/EROFS/)
    mounted.close()
    umount(point!)
  })

  it("carries the kernel's own words when it fails", async () => {
    const [lower] = directories(base, 'fl')
    await expect(native.freshOverlay(on, { ...only([lower!]), options: [['bogus', '1']] })).rejects.toThrow(
      /fsconfig: EINVAL: .*bogus=1; e overlay: Unknown parameter 'bogus'/,
    )
    await expect(native.freshOverlay(on, only([join(base, 'none')]))).rejects.toMatchObject({
      code: 'ENOENT',
    })
    await expect(native.freshOverlay(on, only([`${lower}\0`]))).rejects.toMatchObject({ code: 'EINVAL' })
    expect(statSync(lower!).isDirectory()).toBe(true)
  })
})

function only(lower: string[]): FreshOverlay {
  return { lower, dataOnly: [], upper: null, options: [], mountAttributes: 0, readOnly: false }
}
