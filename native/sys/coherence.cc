// SPDX-License-Identifier: MIT
#include "core/addon.h"
#include "sys/exports.h"

namespace lowerwatch {

void ExportCoherence(Napi::Env env, Napi::Object exports) {
  ExportProbe(env, exports);
  ExportExamine(env, exports);
  ExportListing(env, exports);
}

}  // namespace lowerwatch
