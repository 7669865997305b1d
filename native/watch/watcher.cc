// SPDX-License-Identifier: MIT
#include "watch/watcher.h"

#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>

#include <chrono>
#include <utility>

#include "core/bytes.h"
#include "core/error.h"
#include "core/handle.h"
#include "core/slice.h"
#include "watch/convert.h"
#include "watch/reader.h"

namespace lowerwatch {

namespace {

size_t Option(const Napi::Value& options, const char* name, size_t otherwise) {
  if (!options.IsObject()) return otherwise;
  Napi::Value value = options.As<Napi::Object>().Get(name);
  if (!value.IsNumber()) return otherwise;
  int64_t number = value.As<Napi::Number>().Int64Value();
  return number < 1 ? 1 : static_cast<size_t>(number);
}

void RunReader(std::shared_ptr<Mailbox> mailbox, SharedFd wake, size_t maxHandles) {
  pthread_setname_np(pthread_self(), "lowerwatch");
  RequestShortSlice();
  {
    Reader reader(mailbox, std::move(wake), maxHandles);
    reader.Run();
  }
  struct timespec used = {};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
  std::lock_guard<std::mutex> lock(mailbox->mutex);
  mailbox->readerCpuNs = used.tv_sec * 1000000000LL + used.tv_nsec;
  mailbox->finished = true;
  mailbox->ended.notify_all();
}

}  // namespace

Napi::Function Watcher::Define(Napi::Env env) {
  return DefineClass(env, "Watcher",
                     {InstanceMethod<&Watcher::AddLayer>("addLayer"), InstanceMethod<&Watcher::RemoveLayer>("removeLayer"),
                      InstanceMethod<&Watcher::Rescan>("rescan"), InstanceMethod<&Watcher::Flush>("flush"),
                      InstanceMethod<&Watcher::State>("layerState"), InstanceMethod<&Watcher::ReadCounters>("counters"),
                      InstanceMethod<&Watcher::Close>("close")});
}

Watcher::Watcher(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Watcher>(info) {
  Napi::Env env = info.Env();
  closed_ = true;
  if (info.Length() < 1 || !info[0].IsFunction()) {
    Napi::TypeError::New(env, "expected a function that takes batches").ThrowAsJavaScriptException();
    return;
  }
  Napi::Value options = info.Length() > 1 ? info[1] : env.Undefined();
  mailbox_ = std::make_shared<Mailbox>(Option(options, "maxNames", 65536), Option(options, "maxDirectories", 8192));
  wake_ = std::make_shared<Fd>(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (wake_->get() < 0) {
    ToJsError(env, Failure("eventfd")).ThrowAsJavaScriptException();
    return;
  }
  // Keeps the event loop alive until close(): a daemon may have nothing else to wait for.
  napi_create_threadsafe_function(env, info[0], nullptr, Napi::String::New(env, "lowerwatch.Watcher"), 0, 1, nullptr,
                                  Released, this, Deliver, &mailbox_->callback);
  napi_add_env_cleanup_hook(env, OnEnvironmentEnd, this);
  Ref();
  closed_ = false;
  // The thread takes no signals: they belong to the threads of the process that expect them.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread(RunReader, mailbox_, wake_, Option(options, "maxHandles", 65536));
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

Watcher::~Watcher() { EndThread(); }

Napi::Value Watcher::Send(Napi::Env env, Command command) {
  auto deferred = Napi::Promise::Deferred::New(env);
  if (closed_) {
    deferred.Reject(ToJsError(env, Failure("watcher", "closed", ECANCELED)).Value());
    return deferred.Promise();
  }
  command.id = ++lastPromise_;
  promises_.emplace(command.id, std::make_pair(command.kind, deferred));
  {
    std::lock_guard<std::mutex> lock(mailbox_->mutex);
    mailbox_->commands.push_back(std::move(command));
  }
  eventfd_write(wake_->get(), 1);
  return deferred.Promise();
}

Napi::Value Watcher::AddLayer(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Command command;
  command.kind = Command::Kind::add;
  command.root = Handle::From(info[1]);
  if (command.root == nullptr) return env.Undefined();
  if (!info[0].IsNumber() || !ReadLayerOptions(info[2], command)) {
    Napi::TypeError::New(env, "expected a layer number, a Handle and layer options").ThrowAsJavaScriptException();
    return env.Undefined();
  }
  command.layer = info[0].As<Napi::Number>().Int32Value();
  return Send(env, std::move(command));
}

Napi::Value Watcher::RemoveLayer(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!info[0].IsNumber()) {
    Napi::TypeError::New(env, "expected a layer number").ThrowAsJavaScriptException();
    return env.Undefined();
  }
  Command command;
  command.kind = Command::Kind::remove;
  command.layer = info[0].As<Napi::Number>().Int32Value();
  return Send(env, std::move(command));
}

Napi::Value Watcher::Rescan(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!info[0].IsNumber() || !info[1].IsString()) {
    Napi::TypeError::New(env, "expected a layer number and a directory").ThrowAsJavaScriptException();
    return env.Undefined();
  }
  Command command;
  command.kind = Command::Kind::rescan;
  command.layer = info[0].As<Napi::Number>().Int32Value();
  command.directory = BytesFrom(info[1]);
  return Send(env, std::move(command));
}

Napi::Value Watcher::Flush(const Napi::CallbackInfo& info) {
  Command command;
  command.kind = Command::Kind::flush;
  return Send(info.Env(), std::move(command));
}

Napi::Value Watcher::State(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!info[0].IsNumber()) return env.Null();
  LayerState state;
  {
    std::lock_guard<std::mutex> lock(mailbox_->mutex);
    auto found = mailbox_->states.find(info[0].As<Napi::Number>().Int32Value());
    if (found == mailbox_->states.end()) return env.Null();
    state = found->second;
  }
  return LayerStateTo(env, state);
}

int64_t Watcher::ReaderCpuNs() {
  std::lock_guard<std::mutex> lock(mailbox_->mutex);
  clockid_t clock;
  struct timespec used = {};
  // The thread cannot end while the mutex is held, and its number stays valid until it is joined.
  if (mailbox_->finished || !thread_.joinable() || pthread_getcpuclockid(thread_.native_handle(), &clock) != 0 ||
      clock_gettime(clock, &used) != 0) {
    return mailbox_->readerCpuNs;
  }
  return used.tv_sec * 1000000000LL + used.tv_nsec;
}

Napi::Value Watcher::ReadCounters(const Napi::CallbackInfo& info) {
  size_t degradedDirectories;
  size_t degradedLayers;
  {
    std::lock_guard<std::mutex> lock(mailbox_->mutex);
    degradedDirectories = mailbox_->pending.degradedDirectories;
    degradedLayers = mailbox_->pending.degradedLayers;
  }
  Napi::Object counters = CountersTo(info.Env(), mailbox_->counters);
  counters.Set("degradedDirectories", static_cast<double>(degradedDirectories));
  counters.Set("degradedLayers", static_cast<double>(degradedLayers));
  counters.Set("readerCpuNs", static_cast<double>(ReaderCpuNs()));
  return counters;
}

void Watcher::Deliver(napi_env raw, napi_value callback, void* context, void*) {
  if (raw == nullptr || callback == nullptr) return;
  Napi::Env env(raw);
  auto* self = static_cast<Watcher*>(context);
  Pending::Batch batch;
  std::vector<Reflex::Refreshed> refreshed;
  // Taken together: an answer must not overtake changes that were read before it.
  std::vector<Answer> answers;
  {
    std::lock_guard<std::mutex> lock(self->mailbox_->mutex);
    self->mailbox_->signalled = false;
    if (self->closed_) return;
    if (!self->mailbox_->pending.empty()) {
      batch = self->mailbox_->pending.Take();
      refreshed.swap(self->mailbox_->refreshed);
    }
    answers.swap(self->mailbox_->answers);
  }
  Napi::HandleScope scope(env);
  if (!batch.entries.empty()) {
    self->mailbox_->counters.batches++;
    Napi::Value value = BatchTo(env, batch, refreshed);
    Napi::Function(env, callback).Call({value});
    // What the callback throws is the process's to handle, as with any event.
    if (env.IsExceptionPending()) napi_fatal_exception(env, env.GetAndClearPendingException().Value());
  }
  self->Settle(env, answers);
}

void Watcher::Settle(Napi::Env env, const std::vector<Answer>& answers) {
  for (const Answer& answer : answers) {
    auto found = promises_.find(answer.id);
    if (found == promises_.end()) continue;
    auto [kind, deferred] = found->second;
    promises_.erase(found);
    if (answer.error) {
      deferred.Reject(ToJsError(env, answer.error).Value());
    } else {
      deferred.Resolve(kind == Command::Kind::add ? LayerStateTo(env, answer.state) : env.Undefined());
    }
  }
}

void Watcher::Close(const Napi::CallbackInfo& info) {
  if (closed_) return;
  closed_ = true;
  Napi::Env env = info.Env();
  napi_remove_env_cleanup_hook(env, OnEnvironmentEnd, this);
  EndThread();
  auto promises = std::move(promises_);
  promises_.clear();
  for (auto& [id, promise] : promises) {
    promise.second.Reject(ToJsError(env, Failure("watcher", "closed", ECANCELED)).Value());
  }
  napi_release_threadsafe_function(mailbox_->callback, napi_tsfn_release);
}

// The last call into JavaScript is over: the object may be collected.
void Watcher::Released(napi_env, void*, void* context) { static_cast<Watcher*>(context)->Unref(); }

void Watcher::OnEnvironmentEnd(void* data) {
  auto* self = static_cast<Watcher*>(data);
  self->closed_ = true;
  self->EndThread();
}

void Watcher::EndThread() {
  if (!thread_.joinable()) return;
  {
    std::unique_lock<std::mutex> lock(mailbox_->mutex);
    mailbox_->stop = true;
    eventfd_write(wake_->get(), 1);
    // A thread in a call that never returns (a dead NFS server) is left behind. It calls nothing any more, and ends
    // when that call does.
    mailbox_->ended.wait_for(lock, std::chrono::seconds(2), [&] { return mailbox_->finished; });
  }
  if (mailbox_->finished) {
    thread_.join();
  } else {
    thread_.detach();
  }
  wake_.reset();
}

}  // namespace lowerwatch
