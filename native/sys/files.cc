// SPDX-License-Identifier: MIT
#include "core/addon.h"

namespace lowerwatch {

void ExportFiles(Napi::Env env, Napi::Object exports) {}

}  // namespace lowerwatch
