// SPDX-License-Identifier: MIT
// What `lowerwatch probe` does to a kernel to see what it answers. Typed in src/probe/native.ts.
#pragma once

#include <napi.h>

namespace lowerwatch {

void ExportEventGroup(Napi::Env env, Napi::Object exports);
void ExportDescriptors(Napi::Env env, Napi::Object exports);
void ExportDevices(Napi::Env env, Napi::Object exports);

}  // namespace lowerwatch
