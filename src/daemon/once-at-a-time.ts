// SPDX-License-Identifier: MIT

/** Whoever asks for the same meanwhile gets the result of the one that runs. */
export function onceAtATime(
  running: Map<string, Promise<void>>,
  key: string,
  work: () => Promise<void>,
): Promise<void> {
  const already = running.get(key)
  if (already !== undefined) return already
  const started = work().finally(() => running.delete(key))
  running.set(key, started)
  return started
}
