// SPDX-License-Identifier: MIT
// Values of the watch stage to and from JavaScript.
#pragma once

#include <napi.h>

#include "watch/mailbox.h"

namespace lowerwatch {

// False when a required option is missing or has the wrong type.
bool ReadLayerOptions(const Napi::Value& value, Command& command);
Napi::Value LayerStateTo(Napi::Env env, const LayerState& state);
Napi::Object CountersTo(Napi::Env env, const Counters& counters);
Napi::Value BatchTo(Napi::Env env, const Pending::Batch& batch, const std::vector<Reflex::Refreshed>& refreshed);

}  // namespace lowerwatch
