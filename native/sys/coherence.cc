// SPDX-License-Identifier: MIT
#include "core/addon.h"

namespace lowerwatch {

void ExportCoherence(Napi::Env env, Napi::Object exports) {}

}  // namespace lowerwatch
