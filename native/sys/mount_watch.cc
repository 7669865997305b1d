// SPDX-License-Identifier: MIT
#include "sys/mount_watch.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <memory>

#include "core/error.h"
#include "core/handle.h"
#include "sys/exports.h"
#include "sys/kernel.h"
#include "sys/mountinfo_poll.h"

namespace lowerwatch {

// What libuv holds: outlives the JavaScript object until the handle is closed.
struct MountPoll {
  uv_poll_t handle{};
  int fd = -1;
  // One of these owns `fd`.
  std::unique_ptr<Fd> fanotify;
  std::unique_ptr<MountinfoPoll> mountinfo;
  MountWatch* watch = nullptr;
  napi_async_cleanup_hook_handle hook = nullptr;

  static void OnEvent(uv_poll_t* handle, int, int) {
    auto* self = static_cast<MountPoll*>(handle->data);
    // The table is read anew whatever the events say.
    char events[16384];
    while (read(self->fd, events, sizeof(events)) > 0 && self->fanotify) {
    }
    if (self->watch != nullptr) self->watch->Changed();
  }

  void Close() {
    if (watch != nullptr) watch->poll_ = nullptr;
    watch = nullptr;
    uv_close(reinterpret_cast<uv_handle_t*>(&handle), [](uv_handle_t* closed) {
      auto* self = static_cast<MountPoll*>(closed->data);
      napi_remove_async_cleanup_hook(self->hook);
      delete self;
    });
  }
};

namespace {

// fanotify_init(2) FAN_REPORT_MNT, fanotify_mark(2) FAN_MARK_MNTNS, Linux 6.15. Null, and why.
std::unique_ptr<Fd> OpenFanotify(std::string& reason) {
  auto fd = std::make_unique<Fd>(static_cast<int>(
      syscall(SYS_fanotify_init, FAN_CLASS_NOTIF | FAN_REPORT_MNT | FAN_CLOEXEC | FAN_NONBLOCK, O_RDONLY)));
  if (fd->get() < 0) {
    reason = "fanotify_init: " + ErrnoName(errno);
    return nullptr;
  }
  if (fanotify_mark(fd->get(), FAN_MARK_ADD | FAN_MARK_MNTNS, FAN_MNT_ATTACH | FAN_MNT_DETACH, AT_FDCWD,
                    "/proc/self/ns/mnt") == 0) {
    return fd;
  }
  reason = "fanotify_mark: " + ErrnoName(errno);
  return nullptr;
}

}  // namespace

Napi::Function MountWatch::Define(Napi::Env env) {
  return DefineClass(env, "MountWatch",
                     {InstanceAccessor<&MountWatch::Source>("source"), InstanceAccessor<&MountWatch::Reason>("reason"),
                      InstanceMethod<&MountWatch::Close>("close")});
}

MountWatch::MountWatch(const Napi::CallbackInfo& info) : Napi::ObjectWrap<MountWatch>(info) {
  Napi::Env env = info.Env();
  if (!info[0].IsFunction()) {
    Napi::TypeError::New(env, "expected a function").ThrowAsJavaScriptException();
    return;
  }
  auto poll = std::make_unique<MountPoll>();
  bool wantPoll = info[1].IsObject() && info[1].As<Napi::Object>().Get("poll").ToBoolean();
  if (wantPoll) {
    reason_ = "asked for";
  } else {
    poll->fanotify = OpenFanotify(reason_);
  }
  SysError error;
  if (!poll->fanotify) poll->mountinfo = MountinfoPoll::Start(error);
  fanotify_ = poll->fanotify != nullptr;
  if (!error) {
    poll->fd = fanotify_ ? poll->fanotify->get() : poll->mountinfo->fd();
    uv_loop_t* loop = nullptr;
    napi_get_uv_event_loop(env, &loop);
    int failed = uv_poll_init(loop, &poll->handle, poll->fd);
    if (failed != 0) error = Failure("epoll_ctl", "mount watch", -failed);
  }
  if (error) {
    ToJsError(env, error).ThrowAsJavaScriptException();
    return;
  }
  poll->watch = this;
  poll->handle.data = poll.get();
  uv_poll_start(&poll->handle, UV_READABLE, MountPoll::OnEvent);
  uv_unref(reinterpret_cast<uv_handle_t*>(&poll->handle));
  poll_ = poll.release();
  // An environment that ends waits for the hook to be removed, which is when libuv has let go of the handle.
  napi_add_async_cleanup_hook(
      env, [](napi_async_cleanup_hook_handle, void* data) { static_cast<MountPoll*>(data)->Close(); }, poll_,
      &poll_->hook);
  onChange_ = Napi::Persistent(info[0].As<Napi::Function>());
  // Until it is closed it can call back, so it must not be collected.
  Ref();
}

MountWatch::~MountWatch() {
  if (poll_ != nullptr) poll_->watch = nullptr;
}

void MountWatch::Changed() {
  Napi::Env env = Env();
  Napi::HandleScope scope(env);
  onChange_.MakeCallback(env.Global(), {});
  // Nobody is above this to catch it: as for any callback, it is an uncaught exception.
  if (env.IsExceptionPending()) napi_fatal_exception(env, env.GetAndClearPendingException().Value());
}

Napi::Value MountWatch::Source(const Napi::CallbackInfo& info) {
  return Napi::String::New(info.Env(), fanotify_ ? "fanotify" : "poll");
}

Napi::Value MountWatch::Reason(const Napi::CallbackInfo& info) { return Napi::String::New(info.Env(), reason_); }

void MountWatch::Close(const Napi::CallbackInfo&) {
  if (poll_ == nullptr) return;
  poll_->Close();
  onChange_.Reset();
  Unref();
}

void ExportMountWatch(Napi::Env env, Napi::Object exports) { exports.Set("MountWatch", MountWatch::Define(env)); }

}  // namespace lowerwatch
