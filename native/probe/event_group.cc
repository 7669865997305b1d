// SPDX-License-Identifier: MIT
#include "probe/event_group.h"

#include <poll.h>

#include <climits>
#include <string>
#include <utility>
#include <vector>

#include "core/bytes.h"
#include "core/error.h"
#include "probe/exports.h"
#include "watch/decode.h"
#include "watch/kernel.h"

namespace lowerwatch {

namespace {

void Throw(Napi::Env env, const SysError& error) { ToJsError(env, error).ThrowAsJavaScriptException(); }

// A group without FAN_REPORT_FID gives a descriptor with each event: its path is what it says.
Napi::Value PathOf(Napi::Env env, int fd) {
  char path[PATH_MAX];
  ssize_t length = readlink(("/proc/self/fd/" + std::to_string(fd)).c_str(), path, sizeof(path));
  return length < 0 ? env.Null() : BytesTo(env, std::string_view(path, static_cast<size_t>(length)));
}

}  // namespace

Napi::Function EventGroup::Define(Napi::Env env) {
  return DefineClass(env, "EventGroup",
                     {InstanceMethod<&EventGroup::Watch>("watch"), InstanceMethod<&EventGroup::Mark>("mark"),
                      InstanceMethod<&EventGroup::Wait>("wait"), InstanceMethod<&EventGroup::Drain>("drain"),
                      InstanceMethod<&EventGroup::Close>("close")});
}

// fanotify_init(2), Linux 5.1 for FAN_REPORT_FID; without an argument inotify_init1(2).
EventGroup::EventGroup(const Napi::CallbackInfo& info) : Napi::ObjectWrap<EventGroup>(info) {
  fanotify_ = info[0].IsNumber();
  fd_ = fanotify_ ? static_cast<int>(syscall(
                        SYS_fanotify_init,
                        info[0].As<Napi::Number>().Uint32Value() | FAN_CLASS_NOTIF | FAN_CLOEXEC | FAN_NONBLOCK,
                        O_RDONLY | O_CLOEXEC))
                  : inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
  if (fd_ < 0) Throw(info.Env(), Failure(fanotify_ ? "fanotify_init" : "inotify_init1"));
}

EventGroup::~EventGroup() {
  if (fd_ >= 0) close(fd_);
}

// inotify_add_watch(2).
Napi::Value EventGroup::Watch(const Napi::CallbackInfo& info) {
  std::string path = BytesFrom(info[0]);
  int watch = inotify_add_watch(fd_, path.c_str(), info[1].ToNumber().Uint32Value());
  if (watch >= 0) return Napi::Number::New(info.Env(), watch);
  Throw(info.Env(), Failure("inotify_add_watch", path));
  return info.Env().Undefined();
}

// fanotify_mark(2); FAN_MARK_ADD is added.
void EventGroup::Mark(const Napi::CallbackInfo& info) {
  std::string path = BytesFrom(info[2]);
  unsigned flags = info[0].ToNumber().Uint32Value() | FAN_MARK_ADD;
  uint64_t mask = info[1].ToNumber().Uint32Value();
  if (fanotify_mark(fd_, flags, mask, AT_FDCWD, path.c_str()) != 0) Throw(info.Env(), Failure("fanotify_mark", path));
}

// poll(2): is there something to read, within so many milliseconds?
Napi::Value EventGroup::Wait(const Napi::CallbackInfo& info) {
  struct pollfd poll = {fd_, POLLIN, 0};
  return Napi::Boolean::New(info.Env(), ::poll(&poll, 1, info[0].ToNumber().Int32Value()) > 0);
}

Napi::Value EventGroup::Drain(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Napi::Array events = Napi::Array::New(env);
  std::vector<char> buffer(262144);
  for (;;) {
    ssize_t length = read(fd_, buffer.data(), buffer.size());
    if (length < 0 && errno == EINTR) continue;
    if (length < 0 && errno == EAGAIN) return events;
    std::string_view bytes(buffer.data(), length > 0 ? static_cast<size_t>(length) : 0);
    if (length > 0 && (fanotify_ ? AppendFanotify(bytes, events) : AppendInotify(bytes, events))) continue;
    Throw(env, Failure("read", "events", length < 0 ? errno : EPROTO));
    return env.Undefined();
  }
}

bool EventGroup::AppendInotify(std::string_view bytes, Napi::Array& events) {
  Napi::Env env = Env();
  InotifyEvent event;
  Decoded decoded;
  for (size_t before = bytes.size(); (decoded = DecodeInotifyEvent(bytes, event)) == Decoded::event;
       before = bytes.size()) {
    Napi::Object object = Napi::Object::New(env);
    object.Set("mask", Napi::Number::New(env, event.mask));
    object.Set("lengthBytes", Napi::Number::New(env, static_cast<double>(before - bytes.size())));
    object.Set("watch", Napi::Number::New(env, event.watch));
    object.Set("cookie", Napi::Number::New(env, event.cookie));
    object.Set("name", BytesTo(env, event.name));
    events.Set(events.Length(), object);
  }
  return decoded == Decoded::end;
}

bool EventGroup::AppendFanotify(std::string_view bytes, Napi::Array& events) {
  FanEvent event;
  Decoded decoded;
  for (size_t before = bytes.size(); (decoded = DecodeFanEvent(bytes, event)) == Decoded::event;
       before = bytes.size()) {
    events.Set(events.Length(), FanotifyObject(event, before - bytes.size()));
    if (event.fd >= 0) close(event.fd);
  }
  return decoded == Decoded::end;
}

Napi::Object EventGroup::FanotifyObject(const FanEvent& event, size_t lengthBytes) {
  Napi::Env env = Env();
  Napi::Object object = Napi::Object::New(env);
  object.Set("mask", Napi::Number::New(env, static_cast<double>(event.mask)));
  object.Set("lengthBytes", Napi::Number::New(env, static_cast<double>(lengthBytes)));
  object.Set("pid", Napi::Number::New(env, event.pid));
  object.Set("path", event.fd >= 0 ? PathOf(env, event.fd) : env.Null());
  Napi::Array records = Napi::Array::New(env);
  for (uint32_t index = 0; index < event.count; index++) {
    const FanRecord& record = event.records[index];
    Napi::Object item = Napi::Object::New(env);
    item.Set("type", Napi::Number::New(env, record.type));
    // Without the fsid: handle length, handle type and handle, which name_to_handle_at(2) gives too.
    item.Set("handle", BytesTo(env, record.key.substr(8)));
    item.Set("name", BytesTo(env, record.name));
    records.Set(index, item);
  }
  object.Set("records", records);
  return object;
}

void EventGroup::Close(const Napi::CallbackInfo&) {
  if (fd_ >= 0) close(std::exchange(fd_, -1));
}

void ExportEventGroup(Napi::Env env, Napi::Object exports) { exports.Set("EventGroup", EventGroup::Define(env)); }

}  // namespace lowerwatch
