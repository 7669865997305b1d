// SPDX-License-Identifier: MIT
#include "watch/raw_inotify.h"

#include <utility>
#include <vector>

#include "core/bytes.h"
#include "core/error.h"
#include "watch/decode.h"
#include "watch/kernel.h"

namespace lowerwatch {

Napi::Function RawInotify::Define(Napi::Env env) {
  return DefineClass(
      env, "Inotify",
      {InstanceMethod<&RawInotify::AddWatch>("addWatch"), InstanceMethod<&RawInotify::RemoveWatch>("removeWatch"),
       InstanceMethod<&RawInotify::Close>("close")});
}

RawInotify::RawInotify(const Napi::CallbackInfo& info) : Napi::ObjectWrap<RawInotify>(info) {
  Napi::Env env = info.Env();
  if (info.Length() < 1 || !info[0].IsFunction()) {
    Napi::TypeError::New(env, "expected a function that takes events").ThrowAsJavaScriptException();
    return;
  }
  uv_loop_t* loop = nullptr;
  napi_get_uv_event_loop(env, &loop);
  fd_ = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
  if (fd_ < 0) {
    ToJsError(env, Failure("inotify_init1")).ThrowAsJavaScriptException();
    return;
  }
  onEvents_ = Napi::Persistent(info[0].As<Napi::Function>());
  context_ = std::make_unique<Napi::AsyncContext>(env, "lowerwatch.Inotify");
  poll_ = new Poll{{}, this, nullptr};
  uv_poll_init(loop, &poll_->handle, fd_);
  poll_->handle.data = poll_;
  uv_poll_start(&poll_->handle, UV_READABLE, OnReadable);
  bool persistent = info.Length() < 2 || info[1].IsUndefined() || info[1].ToBoolean();
  if (!persistent) uv_unref(reinterpret_cast<uv_handle_t*>(&poll_->handle));
  napi_add_async_cleanup_hook(env, OnEnvironmentEnd, poll_, &poll_->hook);
  // Events come although nobody holds the object: it lives until close().
  Ref();
}

RawInotify::~RawInotify() { Stop(); }

Napi::Value RawInotify::AddWatch(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!info[0].IsString() || !info[1].IsNumber()) {
    Napi::TypeError::New(env, "expected a path and a mask").ThrowAsJavaScriptException();
    return env.Undefined();
  }
  std::string path = BytesFrom(info[0]);
  int watch = inotify_add_watch(fd_, path.c_str(), info[1].As<Napi::Number>().Uint32Value());
  if (watch < 0) {
    ToJsError(env, Failure("inotify_add_watch", path)).ThrowAsJavaScriptException();
    return env.Undefined();
  }
  return Napi::Number::New(env, watch);
}

void RawInotify::RemoveWatch(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!info[0].IsNumber()) {
    Napi::TypeError::New(env, "expected a watch descriptor").ThrowAsJavaScriptException();
    return;
  }
  if (inotify_rm_watch(fd_, info[0].As<Napi::Number>().Int32Value()) != 0) {
    ToJsError(env, Failure("inotify_rm_watch")).ThrowAsJavaScriptException();
  }
}

void RawInotify::Close(const Napi::CallbackInfo&) {
  if (poll_ == nullptr) return;
  Stop();
  Unref();
}

void RawInotify::Stop() {
  if (poll_ == nullptr) return;
  Poll* poll = std::exchange(poll_, nullptr);
  poll->owner = nullptr;
  uv_close(reinterpret_cast<uv_handle_t*>(&poll->handle), OnClosed);
  // libuv has taken the descriptor out of its set by now.
  close(std::exchange(fd_, -1));
}

void RawInotify::OnClosed(uv_handle_t* handle) {
  auto* poll = static_cast<Poll*>(handle->data);
  // Also tells an environment that is ending that it need not wait any more.
  napi_remove_async_cleanup_hook(poll->hook);
  delete poll;
}

void RawInotify::OnEnvironmentEnd(napi_async_cleanup_hook_handle, void* data) {
  auto* poll = static_cast<Poll*>(data);
  // Without an owner the handle is being closed already.
  if (poll->owner != nullptr) poll->owner->Stop();
}

void RawInotify::OnReadable(uv_poll_t* handle, int, int) {
  auto* poll = static_cast<Poll*>(handle->data);
  if (poll->owner != nullptr) poll->owner->Read();
}

// One read: what is left makes the descriptor readable again, and others get their turn.
void RawInotify::Read() {
  Napi::Env env = Env();
  Napi::HandleScope scope(env);
  std::vector<char> buffer(65536);
  ssize_t length = read(fd_, buffer.data(), buffer.size());
  if (length <= 0) return;
  std::string_view bytes(buffer.data(), static_cast<size_t>(length));
  Napi::Array events = Napi::Array::New(env);
  InotifyEvent event;
  for (uint32_t index = 0; DecodeInotifyEvent(bytes, event) == Decoded::event; index++) {
    Napi::Object object = Napi::Object::New(env);
    object.Set("watch", Napi::Number::New(env, event.watch));
    object.Set("mask", Napi::Number::New(env, event.mask));
    object.Set("cookie", Napi::Number::New(env, event.cookie));
    object.Set("name", BytesTo(env, event.name));
    events.Set(index, object);
  }
  onEvents_.MakeCallback(Value(), {events}, *context_);
  if (env.IsExceptionPending()) napi_fatal_exception(env, env.GetAndClearPendingException().Value());
}

}  // namespace lowerwatch
