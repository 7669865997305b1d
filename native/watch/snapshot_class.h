// SPDX-License-Identifier: MIT
#pragma once

#include <napi.h>

#include <memory>

#include "watch/snapshot.h"

namespace lowerwatch {

class Snapshot : public Napi::ObjectWrap<Snapshot> {
 public:
  static Napi::Function Define(Napi::Env env);
  explicit Snapshot(const Napi::CallbackInfo& info);

 private:
  Napi::Value Rescan(const Napi::CallbackInfo& info);
  Napi::Value Directories(const Napi::CallbackInfo& info);
  void Close(const Napi::CallbackInfo& info);

  int layer_ = 0;
  // Null once closed. A look under way keeps its own reference.
  std::shared_ptr<SnapshotStore> store_;
};

}  // namespace lowerwatch
