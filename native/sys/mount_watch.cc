// SPDX-License-Identifier: MIT
#include "sys/mount_watch.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "core/error.h"
#include "core/handle.h"
#include "sys/exports.h"
#include "sys/kernel.h"

namespace lowerwatch {

// What libuv holds: outlives the JavaScript object until the handle is closed.
struct MountPoll {
  uv_poll_t handle{};
  int fd = -1;
  bool fanotify = false;
  MountWatch* watch = nullptr;
  napi_async_cleanup_hook_handle hook = nullptr;

  static void OnEvent(uv_poll_t* handle, int, int) {
    auto* self = static_cast<MountPoll*>(handle->data);
    if (self->fanotify) {
      // The table is read anew whatever the events say. 256 at a time.
      char events[256 * 64];
      while (read(self->fd, events, sizeof(events)) > 0) {
      }
    }
    if (self->watch != nullptr) self->watch->Changed();
  }

  void Close() {
    if (watch != nullptr) watch->poll_ = nullptr;
    watch = nullptr;
    uv_poll_stop(&handle);
    uv_close(reinterpret_cast<uv_handle_t*>(&handle), [](uv_handle_t* closed) {
      auto* self = static_cast<MountPoll*>(closed->data);
      close(self->fd);
      napi_remove_async_cleanup_hook(self->hook);
      delete self;
    });
  }
};

namespace {

// fanotify_init(2) FAN_REPORT_MNT, fanotify_mark(2) FAN_MARK_MNTNS, Linux 6.15. -1, and why.
int OpenFanotify(std::string& reason) {
  int fd = static_cast<int>(
      syscall(SYS_fanotify_init, FAN_CLASS_NOTIF | FAN_REPORT_MNT | FAN_CLOEXEC | FAN_NONBLOCK, O_RDONLY));
  if (fd < 0) {
    reason = "fanotify_init: " + ErrnoName(errno);
    return -1;
  }
  if (fanotify_mark(fd, FAN_MARK_ADD | FAN_MARK_MNTNS, FAN_MNT_ATTACH | FAN_MNT_DETACH, AT_FDCWD,
                    "/proc/self/ns/mnt") == 0) {
    return fd;
  }
  reason = "fanotify_mark: " + ErrnoName(errno);
  close(fd);
  return -1;
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
  bool wantPoll = info[1].IsObject() && info[1].As<Napi::Object>().Get("poll").ToBoolean();
  if (wantPoll) reason_ = "asked for";
  int fd = wantPoll ? -1 : OpenFanotify(reason_);
  fanotify_ = fd >= 0;
  if (fd < 0) fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    ToJsError(env, Failure("open", "/proc/self/mountinfo")).ThrowAsJavaScriptException();
    return;
  }
  uv_loop_t* loop = nullptr;
  napi_get_uv_event_loop(env, &loop);
  auto* poll = new MountPoll;
  poll->fd = fd;
  poll->fanotify = fanotify_;
  poll->watch = this;
  poll->handle.data = poll;
  int failed = uv_poll_init(loop, &poll->handle, fd);
  if (failed != 0) {
    close(fd);
    delete poll;
    ToJsError(env, Failure("epoll_ctl", "mount watch", -failed)).ThrowAsJavaScriptException();
    return;
  }
  poll_ = poll;
  uv_poll_start(&poll->handle, fanotify_ ? UV_READABLE : UV_PRIORITIZED, MountPoll::OnEvent);
  uv_unref(reinterpret_cast<uv_handle_t*>(&poll->handle));
  napi_add_async_cleanup_hook(
      env, [](napi_async_cleanup_hook_handle, void* data) { static_cast<MountPoll*>(data)->Close(); }, poll,
      &poll->hook);
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
