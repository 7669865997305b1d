// SPDX-License-Identifier: MIT

/**
 * What this kernel shows by itself, without the daemon: wrong in every row but the marked ones. So every row of
 * coherence.test.ts can fail. That the rows ask for the right thing is shown on a fresh mount of the same layers.
 */
import { describe, expect, test } from 'vitest'
import { casesByFileSystem } from './cases/index.js'
import { checkFresh, mountCase, openScene, whyNot } from './cases/scene.js'

describe.each(casesByFileSystem.map(({ lowerFs, rows }) => [lowerFs, rows] as const))(
  'without the daemon, lower on %s',
  (lowerFs, rows) => {
    test.for(rows.map((row) => [row.name, row] as const))(
      '%s',
      { timeout: 30_000 },
      async ([, row], { skip }) => {
        const reason = await whyNot(row, lowerFs)
        skip(reason !== '', reason)
        const overlay = await mountCase(row, lowerFs)
        try {
          const { scene, close } = await openScene(row, overlay)
          try {
            await row.change(scene)
            expect(await checkFresh(row, scene), 'a fresh mount').toBeNull()
            const verdict = await row.check(scene)
            if (row.stockCoherent === true) expect(verdict, 'the stock kernel').toBeNull()
            else expect(verdict, 'the stock kernel is stale here').not.toBeNull()
          } finally {
            await close()
          }
        } finally {
          await overlay.unmount()
        }
      },
    )
  },
)
