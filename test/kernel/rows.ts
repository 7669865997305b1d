// SPDX-License-Identifier: MIT

import { execFileSync } from 'node:child_process'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'

/** What one case of overlayfs_cases.py gave. */
export interface Row {
  /** `ok`, `not ok` or `skip`. */
  result: string
  why: string
}

/** The rows in what overlayfs_cases.py printed. */
export function rowsOf({ stdout }: { stdout: string }): Map<string, Row> {
  const rows = new Map<string, Row>()
  for (const line of stdout.split('\n')) {
    const found = /^(ok|not ok|skip) (\w+)(?:: (.*))?$/.exec(line)
    if (found !== null) rows.set(found[2]!, { result: found[1]!, why: found[3] ?? '' })
  }
  return rows
}

/** Rows that are about a limit of following, and not about what a stock kernel gets wrong. */
export const rightOnStock = new Set([
  'whiteout_in_upper_hides_what_appears_below',
  'impure_mark_of_a_dir_goes_with_its_last_name',
  'stacks_of_a_held_dir_do_not_pile_up',
  'copied_up_file_keeps_its_number_when_it_is_renamed_in_the_overlay',
  'indexed_upper_name_of_it_does_not_depend_on_the_lower',
  'indexed_metacopy_upper_name_of_it_does_not_depend_on_the_lower',
  'numbers_in_a_dir_of_upper_with_what_was_moved_there',
  'listing_of_a_dir_of_upper_with_a_file_whose_data_is_gone',
])

/** Names of all cases. */
export function caseNames(): string[] {
  const listing =
    'import sys; sys.path.insert(0, sys.argv[1]); sys.dont_write_bytecode = True; import overlayfs_cases as c; print("\\n".join(n for n, *_ in c.CASES))'
  const here = dirname(fileURLToPath(import.meta.url))
  return execFileSync('python3', ['-c', listing, here], { encoding: 'utf8' }).trim().split('\n')
}
