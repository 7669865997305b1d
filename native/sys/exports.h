// SPDX-License-Identifier: MIT
// Every topic of native/sys adds its own functions; files.cc, mounts.cc, coherence.cc and process.cc call these.
#pragma once

#include <napi.h>

namespace lowerwatch {

void ExportOpen(Napi::Env env, Napi::Object exports);
void ExportStat(Napi::Env env, Napi::Object exports);
void ExportDirectory(Napi::Env env, Napi::Object exports);
void ExportXattr(Napi::Env env, Napi::Object exports);
void ExportHandleAt(Napi::Env env, Napi::Object exports);
void ExportAccess(Napi::Env env, Napi::Object exports);
void ExportRename(Napi::Env env, Napi::Object exports);
void ExportTree(Napi::Env env, Napi::Object exports);
void ExportLockFile(Napi::Env env, Napi::Object exports);

void ExportMountTable(Napi::Env env, Napi::Object exports);
void ExportMountApi(Napi::Env env, Napi::Object exports);
void ExportFreshOverlay(Napi::Env env, Napi::Object exports);
void ExportInvalidate(Napi::Env env, Napi::Object exports);
void ExportMountWatch(Napi::Env env, Napi::Object exports);

void ExportProbe(Napi::Env env, Napi::Object exports);
void ExportExamine(Napi::Env env, Napi::Object exports);
void ExportListing(Napi::Env env, Napi::Object exports);

void ExportCapability(Napi::Env env, Napi::Object exports);
void ExportNotify(Napi::Env env, Napi::Object exports);
void ExportProcessLink(Napi::Env env, Napi::Object exports);
void ExportProcesses(Napi::Env env, Napi::Object exports);

// Adds `exports.<name>`, a function.
template <Napi::Value (*function)(const Napi::CallbackInfo&)>
void ExportFunction(Napi::Env env, Napi::Object exports, const char* name) {
  exports.Set(name, Napi::Function::New<function>(env, name));
}

}  // namespace lowerwatch
