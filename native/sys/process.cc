// SPDX-License-Identifier: MIT
#include "core/addon.h"

namespace lowerwatch {

void ExportProcess(Napi::Env env, Napi::Object exports) {}

}  // namespace lowerwatch
