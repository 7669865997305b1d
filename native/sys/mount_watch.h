// SPDX-License-Identifier: MIT
#pragma once

#include <napi.h>
#include <uv.h>

#include <string>

namespace lowerwatch {

struct MountPoll;

// Calls back on the JavaScript thread when the mount table of the own namespace changed. Keeps no process alive.
class MountWatch : public Napi::ObjectWrap<MountWatch> {
 public:
  static Napi::Function Define(Napi::Env env);
  explicit MountWatch(const Napi::CallbackInfo& info);
  ~MountWatch() override;

 private:
  friend struct MountPoll;
  Napi::Value Source(const Napi::CallbackInfo& info);
  Napi::Value Reason(const Napi::CallbackInfo& info);
  void Close(const Napi::CallbackInfo& info);
  void Changed();

  Napi::FunctionReference onChange_;
  bool fanotify_ = false;
  std::string reason_;
  // Null once closed. Frees itself when libuv lets go of it.
  MountPoll* poll_ = nullptr;
};

}  // namespace lowerwatch
