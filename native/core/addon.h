// SPDX-License-Identifier: MIT
// What one JavaScript environment (main thread or worker) holds of the addon. There are no globals.
#pragma once

#include <napi.h>

namespace lowerwatch {

struct AddonData {
  Napi::FunctionReference handle;
  Napi::FunctionReference lane;

  static AddonData* Of(Napi::Env env) { return env.GetInstanceData<AddonData>(); }
};

// Each topic adds its functions and classes to the exports.
void ExportFiles(Napi::Env env, Napi::Object exports);
void ExportMounts(Napi::Env env, Napi::Object exports);
void ExportCoherence(Napi::Env env, Napi::Object exports);
void ExportProcess(Napi::Env env, Napi::Object exports);
void ExportWatch(Napi::Env env, Napi::Object exports);
void ExportExperiments(Napi::Env env, Napi::Object exports);

}  // namespace lowerwatch
