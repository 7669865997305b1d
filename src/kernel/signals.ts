// SPDX-License-Identifier: MIT

const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

/**
 * Runs `work`, which a signal would leave half done. `abort` tells it that one came; the signal takes effect when `work` has
 * ended.
 */
export async function holdSignals<T>(work: (abort: AbortSignal) => Promise<T>): Promise<T> {
  const controller = new AbortController()
  let received: NodeJS.Signals | null = null
  const hold = (signal: NodeJS.Signals) => {
    received = signal
    controller.abort(new Error(`ended by ${signal}`))
  }
  for (const signal of signals) process.on(signal, hold)
  try {
    return await work(controller.signal)
  } finally {
    for (const signal of signals) process.removeListener(signal, hold)
    if (received !== null) process.kill(process.pid, received)
  }
}
