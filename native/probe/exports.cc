// SPDX-License-Identifier: MIT
#include "probe/exports.h"

#include "core/addon.h"

namespace lowerwatch {

void ExportExperiments(Napi::Env env, Napi::Object exports) {
  Napi::Object experiments = Napi::Object::New(env);
  ExportEventGroup(env, experiments);
  ExportDescriptors(env, experiments);
  ExportDevices(env, experiments);
  exports.Set("experiments", experiments);
}

}  // namespace lowerwatch
