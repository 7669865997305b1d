// SPDX-License-Identifier: MIT
#include "core/addon.h"

namespace lowerwatch {

void ExportWatch(Napi::Env env, Napi::Object exports) {}

}  // namespace lowerwatch
