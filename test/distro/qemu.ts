// SPDX-License-Identifier: MIT

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import type { Readable } from 'node:stream'

/** One command in a guest. */
export interface Step {
  name: string
  argv: string[]
  /** More variables. */
  env?: Record<string, string>
}

/** What it said, on standard output and standard error, and how it ended. */
export interface StepResult {
  status: number
  output: string
}

export interface QemuRun {
  steps: Map<string, StepResult>
  /** What the kernel logged. */
  messages: string
}

/** Of the emulated machine. */
export interface MachineOptions {
  /** More of the kernel's command line. */
  append?: string[]
  /** Its time stamp counter counts the instructions that it executed. */
  counting?: boolean
}

/**
 * Boots a kernel in software emulation: no KVM, no disk, no network, nothing of this machine but the initramfs, whose
 * first process is init.py. Ends when the guest does.
 *
 * @param consoleLog file for what the kernel says
 *
 * @throws Error with the console's last lines when the guest ended without a word, or the signal came
 */
export async function bootQemu(
  kernel: string,
  initramfs: string,
  consoleLog: string,
  options: MachineOptions & { signal?: AbortSignal } = {},
): Promise<QemuRun> {
  // Whatever becomes of the test, the emulator ends with it.
  const argv = [
    '--pdeathsig',
    'KILL',
    '--',
    'qemu-system-x86_64',
    ...machine(kernel, initramfs, consoleLog, options),
  ]
  const child = spawn('setpriv', argv, { stdio: ['ignore', 'pipe', 'pipe'] })
  const kill = () => void child.kill('SIGKILL')
  options.signal?.addEventListener('abort', kill)
  try {
    const texts = Promise.all([collect(child.stdout), collect(child.stderr)])
    await once(child, 'close')
    const [lines, errors] = await texts
    const run = parse(lines)
    if (run) return run
    const screen = await readFile(consoleLog, 'latin1').catch(() => '')
    const why = options.signal?.aborted ? 'was ended' : 'ended before its steps did'
    throw new Error(`the guest ${why}\n${(errors + screen).split('\n').slice(-60).join('\n')}`)
  } finally {
    options.signal?.removeEventListener('abort', kill)
    kill()
  }
}

function machine(
  kernel: string,
  initramfs: string,
  consoleLog: string,
  { append = [], counting = false }: MachineOptions,
): string[] {
  // qemu 7.2 lets cmpxchg16b leave its operand in EFLAGS now and then, and the kernel ends with a double fault in
  // kmem_cache_alloc(), any module or none. Without the instruction the kernel takes another way. What is counted is that of a
  // common machine; otherwise, nothing that takes the emulator longer than what it is meant to be quicker than.
  const cpu = counting ? 'max,-cx16' : 'max,-cx16,-erms,-fsrm,-avx,-avx2'
  const quick = counting ? [] : ['mitigations=off']
  const accel = ['-accel', 'tcg,thread=single', ...(counting ? ['-icount', 'shift=0,sleep=off'] : [])]
  return [
    ...['-nodefaults', '-no-user-config', '-no-reboot', '-display', 'none'],
    // One processor: two wait for each other most of the time. test/kernel has kernels with two.
    ...['-machine', 'q35', ...accel, '-smp', '1', '-cpu', cpu, '-m', '2G'],
    ...['-kernel', kernel, '-initrd', initramfs],
    // Whatever ends the kernel ends the emulator: panic restarts, and -no-reboot makes an end of that.
    ...['-append', ['rdinit=/init', 'console=ttyS1', 'panic=-1', ...quick, ...append].join(' ')],
    ...['-chardev', 'stdio,id=result,signal=off', '-serial', 'chardev:result'],
    ...['-chardev', `file,id=console,path=${consoleLog}`, '-serial', 'chardev:console'],
  ]
}

function parse(text: string): QemuRun | null {
  const steps = new Map<string, StepResult>()
  for (const line of text.split('\n')) {
    if (!line.startsWith('{')) continue
    const { name, status, output, messages } = JSON.parse(line)
    if (messages !== undefined) return { steps, messages }
    steps.set(name, { status, output })
  }
  return null
}

async function collect(from: Readable): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of from) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks).toString('latin1')
}
