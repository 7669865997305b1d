// SPDX-License-Identifier: MIT
// The JavaScript side of a watcher: starts the reader thread, hands batches over, ends it.
#pragma once

#include <napi.h>

#include <map>
#include <memory>
#include <thread>

#include "watch/mailbox.h"

namespace lowerwatch {

class Watcher : public Napi::ObjectWrap<Watcher> {
 public:
  static Napi::Function Define(Napi::Env env);
  explicit Watcher(const Napi::CallbackInfo& info);
  ~Watcher() override;

 private:
  Napi::Value AddLayer(const Napi::CallbackInfo& info);
  Napi::Value RemoveLayer(const Napi::CallbackInfo& info);
  Napi::Value Rescan(const Napi::CallbackInfo& info);
  Napi::Value Flush(const Napi::CallbackInfo& info);
  Napi::Value State(const Napi::CallbackInfo& info);
  Napi::Value ReadCounters(const Napi::CallbackInfo& info);
  void Close(const Napi::CallbackInfo& info);

  static void Deliver(napi_env env, napi_value callback, void* context, void* data);
  static void Released(napi_env env, void* data, void* hint);
  static void OnEnvironmentEnd(void* data);

  Napi::Value Send(Napi::Env env, Command command);
  void Settle(Napi::Env env, const std::vector<Answer>& answers);
  // Ends the thread. Nothing of the environment is touched.
  void EndThread();
  int64_t ReaderCpuNs();

  std::shared_ptr<Mailbox> mailbox_;
  SharedFd wake_;
  std::thread thread_;
  bool closed_ = false;
  uint64_t lastPromise_ = 0;
  std::map<uint64_t, std::pair<Command::Kind, Napi::Promise::Deferred>> promises_;
};

}  // namespace lowerwatch
