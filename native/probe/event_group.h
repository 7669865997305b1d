// SPDX-License-Identifier: MIT
// One inotify instance or fanotify group with any flags, marks and masks, read when it is asked: what came and what
// did not is known when the call that should have made the event has returned.
#pragma once

#include <napi.h>

#include <cstddef>
#include <string_view>

namespace lowerwatch {

struct FanEvent;

class EventGroup : public Napi::ObjectWrap<EventGroup> {
 public:
  static Napi::Function Define(Napi::Env env);
  explicit EventGroup(const Napi::CallbackInfo& info);
  ~EventGroup() override;

 private:
  Napi::Value Watch(const Napi::CallbackInfo& info);
  void Mark(const Napi::CallbackInfo& info);
  Napi::Value Wait(const Napi::CallbackInfo& info);
  Napi::Value Drain(const Napi::CallbackInfo& info);
  void Close(const Napi::CallbackInfo& info);

  bool AppendInotify(std::string_view bytes, Napi::Array& events);
  bool AppendFanotify(std::string_view bytes, Napi::Array& events);
  Napi::Object FanotifyObject(const FanEvent& event, size_t lengthBytes);

  int fd_ = -1;
  bool fanotify_ = false;
};

}  // namespace lowerwatch
