// SPDX-License-Identifier: MIT
#include "core/addon.h"
#include "watch/raw_inotify.h"
#include "watch/snapshot_class.h"
#include "watch/watcher.h"

namespace lowerwatch {

void ExportWatch(Napi::Env env, Napi::Object exports) {
  exports.Set("Watcher", Watcher::Define(env));
  exports.Set("Snapshot", Snapshot::Define(env));
  exports.Set("Inotify", RawInotify::Define(env));
}

}  // namespace lowerwatch
