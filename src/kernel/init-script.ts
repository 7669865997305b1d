// SPDX-License-Identifier: MIT

/** What the first process of a booted kernel does. */
export interface GuestCommand {
  argv: string[]
  cwd: string
  env: Record<string, string>
  /** Directories that stay reachable by their paths, also below `/tmp` and `/run` of the guest's own. */
  keep: string[]
  /** Follows the last byte of each output. */
  mark: string
}

/** What {@link initScript} tells at its end. */
export interface GuestResult {
  /** Exit status of the command; null when its directory was not there, and it was not run. */
  status: number | null
  /** Kernel messages that are alarms. */
  splats: string[]
}

/** Where the guest has file systems of its own over those of this machine. Directories below the first two can be kept. */
const keepable = ['/tmp', '/run']
const covered = [...keepable, '/dev', '/proc', '/sys']

const isBelow = (path: string, top: string) => path.startsWith(`${top}/`)
const canBeKept = (path: string) => keepable.some((top) => isBelow(path, top))

/** Whether the guest cannot have this directory of the machine's. The path has no links in it. */
export function isCovered(path: string): boolean {
  return covered.some((top) => path === top || isBelow(path, top)) && !canBeKept(path)
}

/** Serial lines of the guest, in the order of the file descriptors 3, 4 and 5 of the kernel's process. */
export const serialLines = { stdout: '/dev/ttyS0', stderr: '/dev/ttyS1', result: '/dev/ttyS2' } as const

/** Kernel messages that mean that something is broken. */
export const splats =
  'WARNING:|BUG:|KASAN:|INFO: possible|INFO: task .* blocked|Oops|stack-protector|refcount_t:|UBSAN:'

/**
 * The script that the kernel starts as its first process. The command gets pipes and not the serial lines themselves, so
 * that it does not think it writes to a terminal. When it has ended, the mark is written to them: what a process it left
 * behind still writes comes after it, and such a process cannot keep the machine from ending. Then its exit status, and
 * kernel messages that are alarms, go to a line of their own.
 *
 * The machine is ended from outside, by whoever has read all of that. halt(8) would write to the /var/log/wtmp of this
 * machine, and a kernel whose first process ends panics.
 */
export function initScript(command: GuestCommand): string {
  const kept = command.keep.filter(canBeKept).map(quote)
  const hold = kept.map((path, at) => `mkdir /dev/kept/${at} && mount --bind ${path} /dev/kept/${at}`)
  // What was not there to be held must not come to be there as an empty directory.
  const give = kept.map(
    (path, at) => `mountpoint -q /dev/kept/${at} && mkdir -p ${path} && mount --bind /dev/kept/${at} ${path}`,
  )
  const env = Object.entries(command.env).map(([name, value]) => `export ${name}=${quote(value)}`)
  const mark = `printf %s ${quote(command.mark)}`
  return `#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir /dev/kept
${hold.join('\n')}
mkdir -p /dev/shm /dev/pts
mount -t tmpfs shm /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmp /tmp
mount -t tmpfs run /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t debugfs debugfs /sys/kernel/debug
${give.join('\n')}
for line in ${Object.values(serialLines).join(' ')}; do stty raw -echo <$line; done
mkfifo /run/out /run/err
cat /run/out >${serialLines.stdout} &
cat /run/err >${serialLines.stderr} &
# Held open: the readers are there until the mark has come, also when nobody else writes.
exec 8>/run/out 9>/run/err
if cd ${quote(command.cwd)}; then
  ${env.join('\n  ')}
  export TMPDIR=/tmp
  # exec takes programs only: \`exit\` and the like would be done by this process.
  (exec ${command.argv.map(quote).join(' ')} </dev/null >&8 2>&9 8>&- 9>&-)
  status=$?
else
  status=nowhere
fi
# Directly where the command has killed the reader.
${mark} >&8 || ${mark} >${serialLines.stdout}
${mark} >&9 || ${mark} >${serialLines.stderr}
sync
{
  echo "status $status"
  dmesg | grep -E ${quote(splats)} | sed 's/^/splat /'
  echo end
} >${serialLines.result}
while :; do sleep 1000; done
`
}

/** One word of a POSIX shell, whatever is in it. */
export function quote(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`
}

/** What the result line said, or null when the kernel ended before its first process could say it all. */
export function parseResult(text: string): GuestResult | null {
  const lines = text.split(/\r?\n/)
  const status = /^status (\d+|nowhere)$/.exec(lines[0] ?? '')?.[1]
  if (status === undefined || !lines.includes('end')) return null
  return {
    status: status === 'nowhere' ? null : Number(status),
    splats: lines.filter((line) => line.startsWith('splat ')).map((line) => line.slice(6)),
  }
}

/** What comes before the mark, or all of it when there is none. Keeps nothing back but what may be a part of the mark. */
export async function* untilMark(chunks: AsyncIterable<Buffer>, mark: Buffer): AsyncGenerator<Buffer> {
  let held: Buffer = Buffer.alloc(0)
  for await (const chunk of chunks) {
    const data = Buffer.concat([held, chunk])
    const at = data.indexOf(mark)
    const ready = at >= 0 ? at : data.length - begun(data, mark)
    if (ready > 0) yield data.subarray(0, ready)
    if (at >= 0) return
    held = data.subarray(ready)
  }
  if (held.length > 0) yield held
}

/** How many bytes at the end of `data` a mark may begin with. */
function begun(data: Buffer, mark: Buffer): number {
  let count = Math.min(data.length, mark.length - 1)
  while (count > 0 && !data.subarray(-count).equals(mark.subarray(0, count))) count--
  return count
}
