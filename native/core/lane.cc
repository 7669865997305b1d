// SPDX-License-Identifier: MIT
#include "core/lane.h"

#include <pthread.h>
#include <signal.h>

#include <chrono>
#include <thread>
#include <vector>

#include "core/addon.h"
#include "core/bytes.h"
#include "core/slice.h"

namespace lowerwatch {

struct LaneState : std::enable_shared_from_this<LaneState> {
  std::mutex mutex;
  std::condition_variable wake;
  std::condition_variable ended;
  std::deque<std::unique_ptr<LaneTask>> queue;
  std::vector<std::unique_ptr<LaneTask>> done;
  // Set under the mutex. `closing` refuses new work; `stop` ends the thread, which calls nothing after it.
  bool closing = false;
  bool stop = false;
  bool finished = false;
  // True while a call to JavaScript is on its way; saves one wake-up per result of a burst.
  bool signalled = false;
  napi_threadsafe_function callback = nullptr;
  // Only touched on the JavaScript thread: promises that are not settled keep the process and the Lane alive.
  size_t pending = 0;
  Lane* owner = nullptr;

  void Hold(napi_env env) {
    if (pending++ != 0) return;
    napi_ref_threadsafe_function(env, callback);
    owner->Ref();
  }
  void LetGo(napi_env env) {
    if (--pending != 0) return;
    napi_unref_threadsafe_function(env, callback);
    owner->Unref();
  }
};

namespace {

void BlockSignals() {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
}

void RunLane(std::shared_ptr<LaneState> state, std::string name, bool bulk) {
  BlockSignals();
  pthread_setname_np(pthread_self(), name.substr(0, 15).c_str());
  bulk ? RequestOrdinarySlice() : RequestShortSlice();
  std::unique_lock<std::mutex> lock(state->mutex);
  for (;;) {
    state->wake.wait(lock, [&] { return state->stop || !state->queue.empty(); });
    if (state->stop) break;
    std::unique_ptr<LaneTask> task = std::move(state->queue.front());
    state->queue.pop_front();
    lock.unlock();
    task->Run();
    lock.lock();
    state->done.push_back(std::move(task));
    if (!state->stop && !state->signalled) {
      state->signalled = true;
      napi_call_threadsafe_function(state->callback, nullptr, napi_tsfn_nonblocking);
    }
  }
  state->finished = true;
  state->ended.notify_all();
}

// On the JavaScript thread, with nothing in flight: ends the thread and gives its callback back.
void Stop(LaneState& state) {
  {
    std::lock_guard<std::mutex> lock(state.mutex);
    if (state.stop) return;
    state.stop = true;
  }
  state.wake.notify_all();
  napi_release_threadsafe_function(state.callback, napi_tsfn_release);
}

void Deliver(napi_env raw, napi_value, void* context, void*) {
  if (raw == nullptr) return;
  Napi::Env env(raw);
  // A copy: the last thing that this does may be to end the lane.
  std::shared_ptr<LaneState> state = static_cast<LaneState*>(context)->shared_from_this();
  std::vector<std::unique_ptr<LaneTask>> done;
  {
    std::lock_guard<std::mutex> lock(state->mutex);
    done.swap(state->done);
    state->signalled = false;
  }
  Napi::HandleScope scope(env);
  for (auto& task : done) {
    task->Settle(env);
    state->LetGo(raw);
  }
  if (state->closing && state->pending == 0) Stop(*state);
}

void Release(napi_env, void* data, void*) { delete static_cast<std::shared_ptr<LaneState>*>(data); }

// Before an environment that ends takes the callback back: the thread calls nothing after this.
void StopCalling(void* data) {
  auto* state = static_cast<LaneState*>(data);
  std::lock_guard<std::mutex> lock(state->mutex);
  state->closing = true;
  state->stop = true;
  state->wake.notify_all();
}

}  // namespace

void LaneTask::Settle(Napi::Env env) {
  if (error) {
    deferred_.Reject(ToJsError(env, error).Value());
    return;
  }
  Napi::Value value = Result(env);
  if (env.IsExceptionPending()) {
    deferred_.Reject(env.GetAndClearPendingException().Value());
  } else {
    deferred_.Resolve(value);
  }
}

Napi::Function Lane::Define(Napi::Env env) {
  return DefineClass(env, "Lane", {InstanceMethod<&Lane::Close>("close")});
}

Lane::Lane(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Lane>(info), state_(std::make_shared<LaneState>()) {
  Napi::Env env = info.Env();
  auto* keep = new std::shared_ptr<LaneState>(state_);
  Napi::String resource = Napi::String::New(env, "lowerwatch.Lane");
  napi_create_threadsafe_function(env, nullptr, nullptr, resource, 0, 1, keep, Release, state_.get(), Deliver,
                                  &state_->callback);
  napi_unref_threadsafe_function(env, state_->callback);
  // Hooks run in the reverse order, so this one before that of the callback.
  napi_add_env_cleanup_hook(env, StopCalling, state_.get());
  state_->owner = this;
  bool bulk = info[1].IsObject() && info[1].As<Napi::Object>().Get("bulk").ToBoolean();
  std::thread(RunLane, state_, info.Length() > 0 ? BytesFrom(info[0]) : "lane", bulk).detach();
}

Lane::~Lane() {
  // Nothing is in flight, or the environment ends and StopCalling has been.
  Stop(*state_);
  napi_remove_env_cleanup_hook(Env(), StopCalling, state_.get());
  std::unique_lock<std::mutex> lock(state_->mutex);
  state_->closing = true;
  // A thread in a call that never returns is left behind: it holds its own reference and calls nothing any more.
  state_->ended.wait_for(lock, std::chrono::seconds(2), [&] { return state_->finished; });
}

Napi::Value Lane::Enqueue(const Napi::Value& value, std::unique_ptr<LaneTask> task) {
  Napi::Env env = value.Env();
  if (env.IsExceptionPending()) return env.Undefined();
  if (!value.IsObject() || !value.As<Napi::Object>().InstanceOf(AddonData::Of(env)->lane.Value())) {
    Napi::TypeError::New(env, "expected a Lane").ThrowAsJavaScriptException();
    return env.Undefined();
  }
  // Null while a worker is being terminated: then every call into the engine fails, and none throws.
  Lane* lane = Unwrap(value.As<Napi::Object>());
  if (lane == nullptr) return env.Undefined();
  std::shared_ptr<LaneState> state = lane->state_;
  Napi::Value promise = task->Promise();
  std::unique_lock<std::mutex> lock(state->mutex);
  if (state->closing) {
    lock.unlock();
    task->error = Failure("lane", "closed", ECANCELED);
    task->Settle(env);
    return promise;
  }
  state->Hold(env);
  state->queue.push_back(std::move(task));
  lock.unlock();
  state->wake.notify_one();
  return promise;
}

void Lane::Close(const Napi::CallbackInfo& info) {
  std::deque<std::unique_ptr<LaneTask>> cancelled;
  {
    std::lock_guard<std::mutex> lock(state_->mutex);
    state_->closing = true;
    cancelled.swap(state_->queue);
  }
  for (auto& task : cancelled) {
    task->error = Failure("lane", "closed", ECANCELED);
    task->Settle(info.Env());
    state_->LetGo(info.Env());
  }
  if (state_->pending == 0) Stop(*state_);
}

}  // namespace lowerwatch
