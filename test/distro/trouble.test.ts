// SPDX-License-Identifier: MIT

/** `kernel module install` and `remove` that are ended in the middle, that fail, and that somebody else could have a hand in. */
import { beforeAll, describe, expect, it } from 'vitest'
import { obtainFor } from '../../src/kernel/module/commands.js'
import { other, runOnACopy } from './copy.js'
import { type Image, obtainImage, obtainPackage } from './image.js'
import { release } from './releases.js'

const reason = process.getuid?.() === 0 ? '' : 'mounts a copy of this machine: needs root'
/** All that an installation puts anywhere. */
const ours =
  'find /usr/src /var/lib /etc/kernel /lib/modules/ \\( -name "*lowerwatch*" -o -path "*/updates/*" \\) -print'
const loadable = 'f=$(shows $R); test -f "$f" && echo "$f"'
const stock = /^\S+\/kernel\/fs\/overlayfs\/overlay\.ko\S*$/
const patched = /^\S+\/updates\/lowerwatch\/overlay\.ko$/

describe.skipIf(reason !== '')(`on a copy of this machine${reason && ` (skipped: ${reason})`}`, () => {
  let image: Image
  let headers: string
  let dkms: string

  beforeAll(async () => {
    image = await obtainImage(release)
    dkms = (await obtainPackage('dkms')).root
    headers = (await obtainFor({ release })).headers.directory
    await obtainFor({ release: other })
  })

  const run = (lines: string[], withDkms = false) =>
    runOnACopy({ release, other, image, dkms: withDkms ? dkms : null }, lines)

  it('a kill -9 leaves a module that can be loaded, and the next command completes or undoes what was begun', () => {
    // As /run/calls says: lets so many calls through, and then kills who called.
    const shim = `#!/bin/bash
if [ -e /run/calls ]; then
  n=$(cat /run/calls)
  if [ "$n" = 0 ]; then kill -9 $PPID; exit; fi
  echo $((n - 1)) >/run/calls
fi
exec -a depmod /bin/kmod "$@"`
    const killed = (call: number, command: string) =>
      `echo ${call} >/run/calls; lowerwatch ${command} --release $R; s=$?; rm /run/calls; ${loadable}; (exit $s)`
    const [, first, said, undone, left, again, completed, shown, kept, turned, removed, end] = run([
      `rm /usr/sbin/depmod; cat >/usr/sbin/depmod <<'END'\n${shim}\nEND\nchmod +x /usr/sbin/depmod; mount -t tmpfs run /run`,
      killed(0, 'install'),
      'lowerwatch status --release $R',
      `lowerwatch remove --release $R; ${loadable}`,
      ours,
      killed(0, 'install'),
      'lowerwatch install --release $R',
      loadable,
      killed(0, 'remove'),
      killed(1, 'remove'),
      `lowerwatch remove --release $R; ${loadable}`,
      ours,
    ])
    for (const ended of [first, again, kept, turned]) expect(ended!.status, ended!.output).toBe(137)
    for (const { output } of [first!, again!, turned!]) expect(output.split('\n').at(-1)).toMatch(stock)
    expect(said!.output).toMatch(/^ {2}installed: no$/m)
    expect(undone!.output).toMatch(/^removed what an unfinished installation left$/m)
    expect(undone!.output.split('\n').at(-1)).toMatch(stock)
    expect(left!.output).toBe('')
    expect(completed).toMatchObject({ status: 0 })
    expect(shown!.output).toMatch(patched)
    expect(kept!.output.split('\n').at(-1)).toMatch(patched)
    expect(removed).toMatchObject({ status: 0, output: expect.stringMatching(/^removed /m) })
    expect(removed!.output.split('\n').at(-1)).toMatch(stock)
    expect(end!.output).toBe('')
  })

  it('a depmod or a signature that fails leaves the machine as it was', () => {
    const [depmod, , signature, , end] = run([
      'mv /usr/sbin/depmod /usr/sbin/kept; ln -s /bin/false /usr/sbin/depmod; lowerwatch install --release $R',
      'mv -f /usr/sbin/kept /usr/sbin/depmod',
      'lowerwatch install --release $R --key /etc/passwd --cert /etc/passwd',
      loadable,
      ours,
    ])
    expect(depmod).toMatchObject({
      status: 2,
      output: expect.stringMatching(/^lowerwatch: depmod .*failed/m),
    })
    expect(signature).toMatchObject({ status: 2, output: expect.stringMatching(/sign-file/) })
    expect(end!.output).toBe('')
  })

  it('what somebody else can change is not run by root, nor built from', () => {
    const as = 'HOME=/home/u XDG_CACHE_HOME='
    const [, program, cache, build, tree, end, clean] = run([
      'mkdir -p /home/u/.cache /home/u/linux/include/config; chown -R 1000 /home/u',
      'chown 1000 dist/cli/main.js; lowerwatch install --release $R; s=$?; chown 0 dist/cli/main.js; (exit $s)',
      `${as} lowerwatch install --release $R`,
      `${as} lowerwatch build --release $R`,
      `for f in .config Module.symvers include/config/kernel.release; do cp '${headers}'/$f /home/u/linux/$f; done; ` +
        'ln -s /home/u/linux /lib/modules/$R/build; lowerwatch install --release $R; s=$?; rm /lib/modules/$R/build; (exit $s)',
      `find /home/u/.cache -mindepth 1; ${ours}`,
      // Its own programs, and another's directory for files.
      'mkdir -m 777 /tmp/bin; for p in depmod modprobe gcc strip; do printf "#!/bin/sh\\ntouch /tmp/ran\\n" >/tmp/bin/$p; chmod +x /tmp/bin/$p; done; ' +
        'PATH=/tmp/bin:$PATH TMPDIR=/tmp/none lowerwatch install --release $R; shows $R; ls /tmp/ran',
    ])
    const line = (who: string, hint: string) =>
      new RegExp(`^lowerwatch: ${who} belongs to user 1000: .*${hint}.*$`)
    expect(program).toMatchObject({
      status: 2,
      output: expect.stringMatching(line('\\S+/dist/cli/main\\.js', 'install lowerwatch as root')),
    })
    for (const done of [cache, build])
      expect(done).toMatchObject({ status: 2, output: expect.stringMatching(line('/home/u', 'sudo -H')) })
    expect(tree).toMatchObject({ status: 2, output: expect.stringMatching(line('/home/u', 'as root')) })
    expect(end!.output).toBe('')
    expect(clean!.output).toMatch(/\/updates\/lowerwatch\/overlay\.ko\n.*cannot access '\/tmp\/ran'/)
  })

  it('two commands at a time take turns', () => {
    const [held, after] = run([
      'exec 9>/lib/modules/.lowerwatch.lock; flock 9; lowerwatch install --release $R >/tmp/said 2>&1 9>&- & ' +
        'until grep -q waiting /tmp/said || ! kill -0 $!; do sleep 0.1; done; shows $R; exec 9>&-; wait $!',
      'cat /tmp/said; shows $R; ls -A /lib/modules | grep lock',
    ])
    expect(held).toMatchObject({ status: 0, output: expect.stringMatching(stock) })
    expect(after!.output).toMatch(
      /^another process .*waiting\n[\s\S]*\ninstalled [\s\S]*\n\S+\/updates\/lowerwatch\/overlay\.ko$/,
    )
  })

  it('a module that an older version has left with DKMS is replaced, and removed', () => {
    const version = (text: string) => `sed -i 's/"version": .*/"version": "${text}",/' package.json`
    const [old, status, replaced, shown, removed, end] = run(
      [
        `cp package.json /tmp/; ${version('0.0.9')}; lowerwatch install --release $R; lowerwatch install --release $OTHER; s=$?; cp /tmp/package.json .; (exit $s)`,
        'dkms status',
        'lowerwatch install --release $R',
        'dkms status; shows $R',
        'lowerwatch remove --release $R; lowerwatch remove --release $OTHER; shows $R; dkms status',
        ours,
      ],
      true,
    )
    expect(old!.status, old!.output).toBe(0)
    expect(status!.output.match(/^lowerwatch-overlay\/0\.0\.9, .*: installed/gm)).toHaveLength(2)
    expect(replaced!.status, replaced!.output).toBe(0)
    expect(shown!.output.match(/^lowerwatch-overlay\/0\.0\.9, .*: installed/gm)).toHaveLength(1)
    expect(shown!.output).toMatch(/\/updates\/dkms\/overlay\.ko/)
    expect(removed!.output.split('\n').at(-1)).toMatch(stock)
    expect(end!.output).toBe('')
  })
})
