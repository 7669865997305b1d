// SPDX-License-Identifier: MIT

/**
 * lowerwatch as a library: the stages that the command line is made of. Names and paths are byte strings, see
 * {@link ByteString}; functions that take a {@link Lane} run their system calls on that lane's thread.
 *
 * @packageDocumentation
 */
export { type ByteString, display, fromBuffer, fromText, toBuffer, toJson, toText } from './bytes.js'
export { type CheckOptions, type CheckReport, checkOverlay } from './coherence/check.js'
export { findHolders, type HolderOptions, type HolderScan } from './coherence/holders.js'
export { askDaemon } from './daemon/client.js'
export type {
  DaemonStatus,
  HolderStatus,
  JsonBytes,
  LayerStatus,
  OverlayStatus,
  UnresolvedStatus,
} from './daemon/status.js'
export { type ErrorCode, isSyscallError, LowerwatchError, type SyscallError } from './errors.js'
export type { Change, ChangeBatch, Handle, Lane, Scope, Watcher } from './native.js'
export { Kind, native } from './native.js'
export { describeOverlays, discoverOverlays, findOverlay } from './overlay/discover.js'
export { freshOverlayOf, type OpenOptions, openOverlay, scanForRedirects } from './overlay/open.js'
export { lowerdirValue, type OverlayOptions, parseOverlayOptions } from './overlay/options.js'
export type {
  Holder,
  OpenLayer,
  OpenOverlay,
  OverlayDescription,
  OverlayMount,
  StaleEntry,
  StaleKind,
} from './overlay/types.js'
export { type RefreshReport, refreshOnce, strategies } from './refresh/once.js'
