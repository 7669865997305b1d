// SPDX-License-Identifier: MIT

/** Every error code of the program. `exit` is the exit status a command ends with. */
export const errorCodes = {
  USAGE: { exit: 2 },
  CONFIG: { exit: 2 },
  NOT_OVERLAY: { exit: 2 },
  NO_SUCH_PATH: { exit: 2 },
  NOT_PERMITTED: { exit: 2 },
  UNSUPPORTED_KERNEL: { exit: 2 },
  LAYER_UNREACHABLE: { exit: 2 },
  SOCKET_IN_USE: { exit: 2 },
  ALREADY_RUNNING: { exit: 2 },
  DAEMON_UNREACHABLE: { exit: 2 },
  STRATEGY_UNAVAILABLE: { exit: 2 },
  MISSING_TOOL: { exit: 2 },
  /** A kernel source, build or boot that did not work. */
  KERNEL: { exit: 2 },
  SYSCALL: { exit: 2 },
  STALE: { exit: 1 },
} as const

export type ErrorCode = keyof typeof errorCodes

/**
 * The one error type of the program: what was attempted, what the kernel said, what to do next.
 */
export class LowerwatchError extends Error {
  readonly code: ErrorCode
  /** What a person can do about it, one sentence; empty when there is nothing. */
  readonly hint: string

  constructor(code: ErrorCode, message: string, options: { hint?: string; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.name = 'LowerwatchError'
    this.code = code
    this.hint = options.hint ?? ''
  }

  /** Exit status for this error. */
  get exitCode(): number {
    return errorCodes[this.code].exit
  }

  /** The one line a command prints. */
  get line(): string {
    return this.hint ? `${this.message}: ${this.hint}` : this.message
  }
}

/** What a failed call of the addon rejects with. `code` is the errno name, for example `ENOENT`. */
export interface SyscallError extends Error {
  code: string
  errno: number
  /** The system call, for example `openat2`. */
  syscall: string
}

/** True for an error of the addon; with `codes`, only for these errno names. */
export function isSyscallError(error: unknown, ...codes: string[]): error is SyscallError {
  if (!(error instanceof Error) || !('syscall' in error) || !('code' in error)) return false
  return codes.length === 0 || codes.includes(String(error.code))
}
