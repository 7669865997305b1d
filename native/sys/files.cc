// SPDX-License-Identifier: MIT
#include "core/addon.h"
#include "sys/exports.h"

namespace lowerwatch {

void ExportFiles(Napi::Env env, Napi::Object exports) {
  ExportOpen(env, exports);
  ExportStat(env, exports);
  ExportDirectory(env, exports);
  ExportXattr(env, exports);
  ExportHandleAt(env, exports);
  ExportAccess(env, exports);
  ExportRename(env, exports);
  ExportTree(env, exports);
  ExportLockFile(env, exports);
}

}  // namespace lowerwatch
