// SPDX-License-Identifier: MIT
// A lane is one thread that runs blocking system calls in order. Each overlay has its own, so that a layer that
// hangs (a dead NFS server) stops nothing but itself; libuv's four shared threads could all be taken by it.
#pragma once

#include <napi.h>

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "core/error.h"

namespace lowerwatch {

// One call: Run on the lane's thread, then Settle on the JavaScript thread.
class LaneTask {
 public:
  explicit LaneTask(Napi::Env env) : deferred_(Napi::Promise::Deferred::New(env)) {}
  virtual ~LaneTask() = default;
  virtual void Run() = 0;
  virtual Napi::Value Result(Napi::Env env) = 0;

  Napi::Value Promise() { return deferred_.Promise(); }
  void Settle(Napi::Env env);
  SysError error;

 private:
  Napi::Promise::Deferred deferred_;
};

struct LaneState;

class Lane : public Napi::ObjectWrap<Lane> {
 public:
  static Napi::Function Define(Napi::Env env);
  explicit Lane(const Napi::CallbackInfo& info);
  ~Lane() override;

  // Queues `task` on the lane that `value` is; returns its promise. A closed lane rejects with ECANCELED.
  static Napi::Value Enqueue(const Napi::Value& value, std::unique_ptr<LaneTask> task);

 private:
  void Close(const Napi::CallbackInfo& info);

  std::shared_ptr<LaneState> state_;
};

// Runs `work(SysError&) -> T` on the lane and resolves with `finish(env, T&)`.
template <class T>
Napi::Value OnLane(const Napi::Value& lane, std::function<T(SysError&)> work,
                   std::function<Napi::Value(Napi::Env, T&)> finish) {
  class Task final : public LaneTask {
   public:
    Task(Napi::Env env, std::function<T(SysError&)> work, std::function<Napi::Value(Napi::Env, T&)> finish)
        : LaneTask(env), work_(std::move(work)), finish_(std::move(finish)) {}
    void Run() override { value_ = work_(error); }
    Napi::Value Result(Napi::Env env) override { return finish_(env, value_); }

   private:
    std::function<T(SysError&)> work_;
    std::function<Napi::Value(Napi::Env, T&)> finish_;
    T value_{};
  };
  return Lane::Enqueue(lane, std::make_unique<Task>(lane.Env(), std::move(work), std::move(finish)));
}

// The same for a call that has no result.
inline Napi::Value OnLane(const Napi::Value& lane, std::function<void(SysError&)> work) {
  return OnLane<int>(
      lane,
      [work = std::move(work)](SysError& error) {
        work(error);
        return 0;
      },
      [](Napi::Env env, int&) { return env.Undefined(); });
}

}  // namespace lowerwatch
