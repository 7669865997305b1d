// SPDX-License-Identifier: MIT
#include "core/addon.h"

namespace lowerwatch {

void ExportMounts(Napi::Env env, Napi::Object exports) {}

}  // namespace lowerwatch
