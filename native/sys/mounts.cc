// SPDX-License-Identifier: MIT
#include "core/addon.h"
#include "sys/exports.h"

namespace lowerwatch {

void ExportMounts(Napi::Env env, Napi::Object exports) {
  ExportMountTable(env, exports);
  ExportMountApi(env, exports);
  ExportInvalidate(env, exports);
  ExportFreshOverlay(env, exports);
  ExportMountWatch(env, exports);
}

}  // namespace lowerwatch
