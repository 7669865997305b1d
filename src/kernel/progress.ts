// SPDX-License-Identifier: MIT

/** Where progress goes: a terminal gets one line that is rewritten, anything else a line now and then. */
export interface ProgressOutput {
  write(text: string): unknown
  isTTY?: boolean | undefined
}

/**
 * Progress of a build by the number of its steps. How many there will be is known from the last build of the same kind;
 * a first build starts from a guess and corrects itself.
 */
export class Progress {
  private done = 0
  private shownAt = 0
  private readonly startedAt: number

  /**
   * @param expected steps, 0 when nothing is known
   * @param now milliseconds, for tests
   */
  constructor(
    private readonly label: string,
    private readonly expected: number,
    private readonly out: ProgressOutput,
    private readonly now: () => number = Date.now,
  ) {
    this.startedAt = now()
    this.shownAt = this.startedAt
  }

  get steps(): number {
    return this.done
  }

  step(): void {
    this.done++
    const interval = this.out.isTTY ? 200 : 15_000
    if (this.now() - this.shownAt < interval) return
    this.shownAt = this.now()
    this.out.write(this.out.isTTY ? `\r\x1b[K${this.line()}` : `${this.line()}\n`)
  }

  line(): string {
    if (this.expected === 0) return `${this.label}: ${this.done} steps`
    // Never "100 %" before the end: the guess can be too low.
    const total = Math.max(this.expected, Math.ceil(this.done * 1.02) + 1)
    const elapsedMs = this.now() - this.startedAt
    const leftMs = (elapsedMs / Math.max(this.done, 1)) * (total - this.done)
    return `${this.label}: ${Math.floor((this.done / total) * 100)} %, about ${duration(leftMs)} left`
  }

  finish(): void {
    const text = `${this.label}: done in ${duration(this.now() - this.startedAt)}`
    this.out.write(this.out.isTTY ? `\r\x1b[K${text}\n` : `${text}\n`)
  }
}

/** For people: `45 s`, `3 min 20 s`. */
export function duration(milliseconds: number): string {
  const seconds = Math.max(Math.round(milliseconds / 1000), 0)
  return seconds < 60 ? `${seconds} s` : `${Math.floor(seconds / 60)} min ${seconds % 60} s`
}
