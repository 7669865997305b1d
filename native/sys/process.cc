// SPDX-License-Identifier: MIT
#include "core/addon.h"
#include "sys/exports.h"

namespace lowerwatch {

void ExportProcess(Napi::Env env, Napi::Object exports) {
  ExportCapability(env, exports);
  ExportNotify(env, exports);
}

}  // namespace lowerwatch
