// SPDX-License-Identifier: MIT

import { LowerwatchError } from '../../errors.js'

/** What failed, after it was undone; when that fails too, with what to do. */
export async function undone(error: unknown, undo: () => Promise<unknown>): Promise<unknown> {
  try {
    await undo()
    return error
  } catch (second) {
    return new LowerwatchError('KERNEL', lineOf(error), {
      hint: `and it is not undone (${lineOf(second)}): run "lowerwatch kernel module remove"`,
      cause: error,
    })
  }
}

const lineOf = (error: unknown) => (error instanceof LowerwatchError ? error.line : String(error))
