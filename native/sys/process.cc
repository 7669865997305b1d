// SPDX-License-Identifier: MIT
#include "core/addon.h"
#include "core/slice.h"
#include "sys/exports.h"

namespace lowerwatch {

namespace {

Napi::Value RequestShortSliceHere(const Napi::CallbackInfo& info) {
  RequestShortSlice();
  return info.Env().Undefined();
}

}  // namespace

void ExportProcess(Napi::Env env, Napi::Object exports) {
  ExportCapability(env, exports);
  ExportNotify(env, exports);
  ExportProcessLink(env, exports);
  ExportProcesses(env, exports);
  ExportFunction<RequestShortSliceHere>(env, exports, "requestShortSlice");
}

}  // namespace lowerwatch
