// SPDX-License-Identifier: MIT
import { type ByteString, join } from '../bytes.js'
import { type Change, Kind } from '../native.js'
import type { OpenOverlay } from '../overlay/types.js'
import type { RefreshPolicy } from './policy.js'
import { applyVanish } from './vanish.js'

/** Directories that a lower layer lost, until the policy has been applied to the upper's copies of them. */
export class VanishedDirectories {
  private waiting = new Map<ByteString, { directory: ByteString; name: ByteString }>()

  constructor(
    private readonly overlay: OpenOverlay,
    private readonly policy: RefreshPolicy,
    private readonly log: (message: string) => void,
  ) {}

  add({ kind, directory, name }: Change): void {
    const gone = kind & Kind.directory && kind & (Kind.delete | Kind.movedFrom)
    if (this.policy.onVanish !== 'keep' && gone) this.waiting.set(join(directory, name), { directory, name })
  }

  /** @returns whether the upper was changed behind the overlay */
  async apply(): Promise<boolean> {
    const candidates = [...this.waiting.values()]
    this.waiting = new Map()
    let changed = false
    for (const { directory, name } of candidates) {
      const options = { dryRun: false, log: this.log }
      const result = await applyVanish(this.policy.onVanish, this.overlay, directory, name, options)
      changed ||= result.changed
    }
    return changed
  }
}
