// SPDX-License-Identifier: MIT
#include "core/addon.h"
#include "watch/watcher.h"

namespace lowerwatch {

void ExportWatch(Napi::Env env, Napi::Object exports) { exports.Set("Watcher", Watcher::Define(env)); }

}  // namespace lowerwatch
