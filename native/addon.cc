// SPDX-License-Identifier: MIT
#include <napi.h>

#include "core/addon.h"
#include "core/handle.h"
#include "core/lane.h"

namespace lowerwatch {

static Napi::Object Initialize(Napi::Env env, Napi::Object exports) {
  auto* data = new AddonData();
  env.SetInstanceData(data);
  data->handle = Napi::Persistent(Handle::Define(env));
  Napi::Function lane = Lane::Define(env);
  data->lane = Napi::Persistent(lane);
  exports.Set("Lane", lane);
  ExportFiles(env, exports);
  ExportMounts(env, exports);
  ExportCoherence(env, exports);
  ExportProcess(env, exports);
  ExportWatch(env, exports);
  ExportExperiments(env, exports);
  return exports;
}

}  // namespace lowerwatch

static Napi::Object Init(Napi::Env env, Napi::Object exports) { return lowerwatch::Initialize(env, exports); }
NODE_API_MODULE(lowerwatch, Init)
