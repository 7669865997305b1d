// SPDX-License-Identifier: MIT
// A file descriptor that JavaScript holds. Work in flight keeps it open: the number is never reused under a call.
#pragma once

#include <napi.h>
#include <unistd.h>

#include <memory>
#include <utility>

namespace lowerwatch {

// An owned descriptor. Shared between the JavaScript object and the calls that are using it.
class Fd {
 public:
  explicit Fd(int fd) : fd_(fd) {}
  ~Fd() {
    if (fd_ >= 0) close(fd_);
  }
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

using SharedFd = std::shared_ptr<Fd>;

class Handle : public Napi::ObjectWrap<Handle> {
 public:
  static Napi::Function Define(Napi::Env env);
  static Napi::Value New(Napi::Env env, SharedFd fd);
  // The descriptor behind a JavaScript value; null (with a pending TypeError) when it is none or is closed.
  static SharedFd From(const Napi::Value& value);

  explicit Handle(const Napi::CallbackInfo& info);

 private:
  Napi::Value Number(const Napi::CallbackInfo& info);
  void Close(const Napi::CallbackInfo& info);

  SharedFd fd_;
};

}  // namespace lowerwatch
