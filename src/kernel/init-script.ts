// SPDX-License-Identifier: MIT

/** What the first process of a booted kernel does. */
export interface GuestCommand {
  argv: string[]
  cwd: string
  env: Record<string, string>
  /** Directories that stay reachable by their paths, also where the guest has a file system of its own. */
  keep: string[]
}

/** Where the guest has a file system of its own over the one of this machine. */
const hidden = ['/tmp', '/run']

/** Serial lines of the guest, in the order of the file descriptors 3, 4 and 5 of the kernel's process. */
export const serialLines = { stdout: '/dev/ttyS0', stderr: '/dev/ttyS1', result: '/dev/ttyS2' } as const

/** Kernel messages that mean that something is broken. */
export const splats =
  'WARNING:|BUG:|KASAN:|INFO: possible|INFO: task .* blocked|Oops|stack-protector|refcount_t:|UBSAN:'

/**
 * The script that the kernel starts as its first process. The command gets pipes and not the serial lines themselves, so
 * that it does not think it writes to a terminal. Its exit status, and kernel messages that are alarms, go to a line of
 * their own; then the machine is halted, since a kernel whose first process ends panics, and `reboot` would boot again.
 */
export function initScript(command: GuestCommand): string {
  const kept = command.keep.filter((path) => hidden.some((top) => path.startsWith(`${top}/`))).map(quote)
  const hold = kept.map((path, at) => `mkdir -p /dev/kept/${at} && mount --bind ${path} /dev/kept/${at}`)
  const give = kept.map((path, at) => `mkdir -p ${path} && mount --bind /dev/kept/${at} ${path}`)
  const env = Object.entries(command.env).map(([name, value]) => `export ${name}=${quote(value)}`)
  return `#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
${hold.join('\n')}
mkdir -p /dev/shm /dev/pts
mount -t tmpfs shm /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmp /tmp
mount -t tmpfs run /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t debugfs debugfs /sys/kernel/debug
${give.join('\n')}
cd ${quote(command.cwd)} || cd /
${env.join('\n')}
export TMPDIR=/tmp
for line in ${Object.values(serialLines).join(' ')}; do stty raw -echo <$line; done
mkfifo /run/out /run/err
cat /run/out >${serialLines.stdout} & out=$!
cat /run/err >${serialLines.stderr} & err=$!
${command.argv.map(quote).join(' ')} </dev/null >/run/out 2>/run/err
status=$?
wait $out $err
{
  echo "status $status"
  dmesg | grep -E ${quote(splats)} | sed 's/^/splat /'
  echo end
} >${serialLines.result}
halt -f
`
}

/** One word of a POSIX shell, whatever is in it. */
export function quote(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`
}

/** What the result line said, or null when the kernel ended before its first process could say it all. */
export function parseResult(text: string): { status: number; splats: string[] } | null {
  const lines = text.split(/\r?\n/)
  const status = /^status (\d+)$/.exec(lines[0] ?? '')
  if (!status || !lines.includes('end')) return null
  return {
    status: Number(status[1]),
    splats: lines.filter((line) => line.startsWith('splat ')).map((line) => line.slice(6)),
  }
}
