// SPDX-License-Identifier: MIT
// inotify(7) as it is, for the public class in src/watch/inotify.ts. Read on the event loop: no thread.
#pragma once

#include <napi.h>
#include <uv.h>

#include <memory>

namespace lowerwatch {

class RawInotify : public Napi::ObjectWrap<RawInotify> {
 public:
  static Napi::Function Define(Napi::Env env);
  explicit RawInotify(const Napi::CallbackInfo& info);
  ~RawInotify() override;

 private:
  // Lives until libuv has let go of it, which is later than close().
  struct Poll {
    uv_poll_t handle;
    // Null once closed.
    RawInotify* owner;
    napi_async_cleanup_hook_handle hook;
  };

  Napi::Value AddWatch(const Napi::CallbackInfo& info);
  void RemoveWatch(const Napi::CallbackInfo& info);
  void Close(const Napi::CallbackInfo& info);
  void Stop();
  void Read();

  static void OnReadable(uv_poll_t* handle, int status, int events);
  static void OnClosed(uv_handle_t* handle);
  static void OnEnvironmentEnd(napi_async_cleanup_hook_handle hook, void* data);

  int fd_ = -1;
  Poll* poll_ = nullptr;
  Napi::FunctionReference onEvents_;
  std::unique_ptr<Napi::AsyncContext> context_;
};

}  // namespace lowerwatch
