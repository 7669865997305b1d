// SPDX-License-Identifier: MIT
import { execFileSync } from 'node:child_process'
import { mkdirSync, readdirSync, readlinkSync, renameSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { type ByteString, fromText, toBuffer } from '../../../src/bytes.js'
import { native } from '../../../src/native.js'
import { discoverOverlays, findOverlay } from '../../../src/overlay/discover.js'
import { freshOverlayOf, openOverlay, scanForRedirects } from '../../../src/overlay/open.js'
import { escapeLayer, lowerdirValue } from '../../../src/overlay/options.js'
import { onMounts, scratch } from './mounts.js'

const { base, lane, make, here } = scratch()

/** mount(2) with exactly these bytes as options: execve(2) through a script, because Node's arguments are UTF-8. */
function mountLegacy(options: ByteString, target: ByteString, cwd = base): void {
  const script = join(base, 'mount.sh')
  const quote = (text: string) => `'${text.replaceAll("'", "'\\''")}'`
  writeFileSync(script, toBuffer(`mount -i -t overlay -o ${quote(options)} lowerwatch ${quote(target)}\n`))
  execFileSync('sh', [script], { cwd, stdio: 'pipe' })
}

async function mountFresh(
  lower: ByteString[],
  target: ByteString,
  dataOnly: ByteString[] = [],
): Promise<void> {
  const options: [string, string | null][] = dataOnly.length > 0 ? [['metacopy', 'on']] : []
  const mount = await native.freshOverlay(lane, {
    lower,
    dataOnly,
    upper: null,
    options,
    mountAttributes: 0,
    readOnly: true,
  })
  await native.attachMount(lane, mount, target, { beneath: false })
  mount.close()
}

const find = async (path: ByteString) => findOverlay(await discoverOverlays(lane), path, lane)

const names = [
  'a b',
  'tab\tx',
  'nl\nx',
  'bs\\x',
  'end\\',
  'eq=x',
  'colon:x',
  'c::d',
  "q'x",
  'hi\xffx',
  '#',
  '\\072',
  '日本',
].map((name) => (/[^\0-\xff]/.test(name) ? fromText(name) : name))

onMounts('layers come back from the running kernel', () => {
  it.each(names)('given in one string: %j', async (name) => {
    const [odd, plain, target] = make(name, 'plain', 'm')
    mountLegacy(`lowerdir=${lowerdirValue([odd!, plain!])}`, target!)
    expect((await find(target!)).lower).toEqual([odd, plain])
  })

  it.each([...names, 'comma,x'])('given one by one: %j', async (name) => {
    const [odd, plain, data, target] = make(name, 'plain', `${name}2`, 'm')
    await mountFresh([odd!, plain!], target!, [data!])
    expect(await find(target!)).toMatchObject({ lower: [odd, plain], dataOnly: [data] })
  })

  it.each(names)('upper: %j', async (name) => {
    const [lower, upper, work, target] = make('l', name, `${name}w`, 'm')
    mountLegacy(`lowerdir=${lower},upperdir=${escapeLayer(upper!)},workdir=${escapeLayer(work!)}`, target!)
    expect(await find(target!)).toMatchObject({ lower: [lower], upper, work })
  })

  it.each(['bs\\x', 'end\\', 'b\\\\c'])('upper given as a descriptor: %j', async (name) => {
    const [lower, upper, work, target] = make('l', name, 'w', 'm')
    const mount = await native.freshOverlay(lane, {
      lower: [lower!],
      dataOnly: [],
      upper: { upper: upper!, work: work! },
      options: [],
      mountAttributes: 0,
      readOnly: false,
    })
    await native.attachMount(lane, mount, target!, { beneath: false })
    mount.close()
    const overlay = await openOverlay(await find(target!))
    expect(overlay.description.upper).toBe(upper)
    overlay.close()
  })
})

onMounts('findOverlay', () => {
  it('follows links, and takes the overlay that is on top', async () => {
    const [one, two, three, target] = make('1', '2', '3', 'm')
    await mountFresh([one!, two!], target!)
    await mountFresh([two!, three!], target!)
    symlinkSync(target!, `${here()}/link`)
    expect((await find(`${here()}/link`)).lower).toEqual([two, three])
  })

  it('says what is there instead', async () => {
    const [one, two, target] = make('1', '2/x', 'm')
    await mountFresh([one!, `${here()}/2`], target!)
    await expect(find(`${target}/x`)).rejects.toMatchObject({
      code: 'NOT_OVERLAY',
      line: `${target}/x is not a mount point: it lies in the overlay at ${target}; give that path`,
    })
    await expect(find(two!)).rejects.toMatchObject({
      line: `${two} is not an overlay: it lies on tmpfs at ${base}`,
    })
    await expect(find(base)).rejects.toMatchObject({
      line: `${base} is not an overlay: tmpfs is mounted there`,
    })
    await expect(find(`${base}/none`)).rejects.toMatchObject({
      code: 'NO_SUCH_PATH',
      line: `${base}/none: no such path`,
    })
  })
})

onMounts('openOverlay', () => {
  it('opens upper and lowers as detached clones', async () => {
    const [lower, upper, work, target] = make('l', 'u', 'w', 'm')
    mountLegacy(`lowerdir=${lower},upperdir=${upper},workdir=${work}`, target!)
    const overlay = await openOverlay(await find(target!))
    expect(overlay.layers).toMatchObject([
      {
        index: 0,
        role: 'upper',
        path: upper,
        cloneReason: '',
        fsType: 'tmpfs',
        revalidates: false,
        nested: null,
      },
      {
        index: 1,
        role: 'lower',
        path: lower,
        cloneReason: '',
        fsType: 'tmpfs',
        revalidates: false,
        nested: null,
      },
    ])
    expect([overlay.cloneReason, overlay.unmappable]).toEqual(['', ''])
    execFileSync('umount', [target!])
    overlay.close()
  })

  it('refuses a relative layer, and takes the absolute paths that it is given', async () => {
    const [one, two, target] = make('1', '2', 'm')
    mountLegacy('lowerdir=1:2', target!, here())
    const description = await find(target!)
    expect(description.lower).toEqual(['1', '2'])
    await expect(openOverlay(description)).rejects.toMatchObject({
      code: 'LAYER_UNREACHABLE',
      line: 'lower layer 1 was given as a relative path: set `lowerdir` for this overlay in the configuration',
    })
    const overlay = await openOverlay(description, { lowerdir: [one!, two!] })
    expect(overlay.layers.map(({ path }) => path)).toEqual([one, two])
    overlay.close()
  })

  it('refuses a layer that vanished, moved, or was replaced', async () => {
    const [one, two, target] = make('1', '2', 'm')
    await mountFresh([one!, two!], target!)
    const description = await find(target!)
    renameSync(one!, `${one}-away`)
    await expect(openOverlay(description)).rejects.toMatchObject({
      code: 'LAYER_UNREACHABLE',
      message: `lower layer ${one} does not exist`,
    })
    mkdirSync(one!)
    await expect(openOverlay(description)).rejects.toMatchObject({
      code: 'LAYER_UNREACHABLE',
      message: `${one} is no longer the lower layer of the overlay at ${target}`,
    })
    writeFileSync(`${here()}/file`, '')
    await expect(openOverlay(description, { lowerdir: [`${here()}/file`, two!] })).rejects.toMatchObject({
      message: `lower layer ${here()}/file is not a directory`,
    })
  })

  it('reaches the lower below the overlay that is mounted on it', async () => {
    const [lower, upper, work] = make('l', 'u', 'w')
    writeFileSync(`${lower}/f`, '')
    mountLegacy(`lowerdir=${lower},upperdir=${upper},workdir=${work}`, lower!)
    writeFileSync(`${lower}/only-upper`, '')
    const overlay = await openOverlay(await find(lower!))
    expect(overlay.layers[1]).toMatchObject({ path: lower, covered: true, fsType: 'tmpfs' })
    const entries = await native.readDirectory(lane, overlay.layers[1]!.root, '')
    expect(entries.map((entry) => entry.name)).toEqual(['f'])
    const oracle = await native.freshOverlay(lane, freshOverlayOf(overlay))
    const shown = await native.readDirectory(lane, oracle, '')
    expect(shown.map((entry) => entry.name).sort()).toEqual(['f', 'only-upper'])
    oracle.close()
    overlay.close()
  })

  it('reaches a layer below something that was mounted on it later', async () => {
    const [one, two, target] = make('1', '2', 'm')
    writeFileSync(`${two}/f`, '')
    await mountFresh([one!, two!], target!)
    execFileSync('mount', ['-t', 'tmpfs', 'later', two!])
    const overlay = await openOverlay(await find(target!))
    expect(overlay.layers[1]?.covered).toBe(true)
    expect(await native.readDirectory(lane, overlay.layers[1]!.root, '')).toHaveLength(1)
    overlay.close()
  })

  it('knows a layer that lies in another overlay', async () => {
    const [one, two, inner, three, target] = make('1/deep/er', '2', 'inner', '3', 'm')
    await mountFresh([`${here()}/1`, two!], inner!)
    await mountFresh([`${inner}/deep/er`, three!], target!)
    const inside = await find(inner!)
    const overlay = await openOverlay(await find(target!))
    expect(overlay.layers[0]).toMatchObject({
      fsType: 'overlay',
      nested: { device: inside.device, directory: 'deep/er' },
    })
    expect(one).toBeDefined()
    overlay.close()
  })

  it('opens what is below a bind mount, and no part of an overlay', async () => {
    const [one, two, part, target] = make('1/sub', '2', 'part', 'm')
    await mountFresh([`${here()}/1`, two!], target!)
    execFileSync('mount', ['--bind', `${target}/sub`, part!])
    expect((await find(part!)).mounts).toHaveLength(2)
    execFileSync('umount', [target!])
    await expect(openOverlay(await find(part!))).rejects.toMatchObject({ code: 'NOT_OVERLAY' })
    expect(one).toBeDefined()
  })
})

onMounts('names that cannot be mapped', () => {
  it.each([
    ['redirect_dir=on', 'redirect_dir=on'],
    ['metacopy=on', 'metacopy=on'],
    ['redirect_dir=nofollow', ''],
    ['xino=off', ''],
  ])('mounted with %s', async (option, reason) => {
    const [lower, upper, work, target] = make('l', 'u', 'w', 'm')
    mountLegacy(`lowerdir=${lower},upperdir=${upper},workdir=${work},${option}`, target!)
    const overlay = await openOverlay(await find(target!))
    expect(overlay.unmappable).toBe(reason)
    overlay.close()
  })

  it('without an upper redirects are only followed', async () => {
    const [one, two, target] = make('1', '2', 'm')
    await mountFresh([one!, two!], target!)
    const overlay = await openOverlay(await find(target!))
    expect(overlay.description.options).toContainEqual(['redirect_dir', 'on'])
    expect(overlay.unmappable).toBe('')
    overlay.close()
  })

  it('a directory that was renamed in the overlay is found', async () => {
    const [old, upper, work, target] = make('l/x/old', 'u', 'w', 'm')
    const lower = `${here()}/l`
    const options = `lowerdir=${lower},upperdir=${upper},workdir=${work}`
    mountLegacy(`${options},redirect_dir=on`, target!)
    renameSync(`${target}/x/old`, `${target}/x/new`)
    execFileSync('umount', [target!])
    mountLegacy(options, target!)
    const overlay = await openOverlay(await find(target!))
    expect(await scanForRedirects(overlay, { maxDirectories: 1000 })).toBe(`${upper}/x/new has a redirect`)
    expect(await scanForRedirects(overlay, { maxDirectories: 1 })).toBe(
      'more than 1 directories to search for redirects',
    )
    expect(old).toBeDefined()
    overlay.close()
  })

  it('no renamed directory, nothing found', async () => {
    const [lower, upper, work, target] = make('l', 'u/a/b', 'w', 'm')
    mountLegacy(`lowerdir=${lower},upperdir=${here()}/u,workdir=${work}`, target!)
    const overlay = await openOverlay(await find(target!))
    expect(await scanForRedirects(overlay, { maxDirectories: 1000 })).toBe('')
    expect(upper).toBeDefined()
    overlay.close()
  })
})

onMounts('a fresh overlay of the same layers', () => {
  it.each([
    '',
    'redirect_dir=on',
    'redirect_dir=nofollow',
    'metacopy=on',
    'index=on,nfs_export=on',
    'volatile',
    'xino=on',
    'uuid=null',
    'verity=on',
    'userxattr',
    'default_permissions',
  ])('can be mounted whatever the options: %s', async (option) => {
    const [lower, upper, work, target] = make('l', 'u', 'w', 'm')
    writeFileSync(`${lower}/below`, '')
    mountLegacy(`lowerdir=${lower},upperdir=${upper},workdir=${work}${option && `,${option}`}`, target!)
    writeFileSync(`${target}/above`, '')
    const oracle = await native.freshOverlay(lane, freshOverlayOf(await find(target!)))
    const shown = await native.readDirectory(lane, oracle, '')
    expect(shown.map((entry) => entry.name).sort()).toEqual(['above', 'below'])
    oracle.close()
  })

  it('takes the place of one without an upper, with the flags of its mount', async () => {
    const [one, two, target] = make('1', '2', 'm')
    mountLegacy(`lowerdir=${one}:${two},nosuid,nodev,noatime`, target!)
    const description = await find(target!)
    const fresh = freshOverlayOf(description, 'swap')
    const mount = await native.freshOverlay(lane, fresh)
    execFileSync('umount', [target!])
    await native.attachMount(lane, mount, target!, { beneath: false })
    mount.close()
    const again = await find(target!)
    expect(again.mounts[0]?.mountOptions).toBe(description.mounts[0]?.mountOptions)
    expect([again.lower, again.options]).toEqual([description.lower, description.options])
  })

  it('takes the place of one with its own lower_changes, and not with what that was switched to', async () => {
    const [one, two, target] = make('1', '2', 'm')
    await mountFresh([one!, two!], target!)
    const overlay = await openOverlay(await find(target!))
    const shown = overlay.description.options.filter(([name]) => name !== 'lower_changes')
    overlay.description.options = [['lower_changes', 'manual'], ...shown]
    const modes = () =>
      (['swap', 'oracle'] as const).map((purpose) =>
        freshOverlayOf(overlay, purpose).options.filter(([name]) => name === 'lower_changes'),
      )
    expect(modes()).toEqual([[['lower_changes', 'manual']], []])
    overlay.switchedTo = 'manual'
    expect(modes()).toEqual([[['lower_changes', 'off']], []])
    overlay.close()
  })
})

/** '' for the descriptor that the list was read by. */
function linkOf(fd: string): string {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`)
  } catch {
    return ''
  }
}

onMounts('a failed open', () => {
  it('leaves no descriptor', async () => {
    const [one, two, target] = make('1', '2', 'm')
    await mountFresh([one!, two!], target!)
    const description = await find(target!)
    // Not their number: those of other tests may go meanwhile.
    const descriptors = () => readdirSync('/proc/self/fd').map((fd) => `${fd} ${linkOf(fd)}`)
    const before = new Set(descriptors())
    for (let i = 0; i < 30; i++) {
      await expect(openOverlay(description, { lowerdir: [one!, '/none'] })).rejects.toThrow()
    }
    expect(descriptors().filter((one) => !before.has(one) && !one.endsWith(' '))).toEqual([])
  })
})
