// SPDX-License-Identifier: MIT
// Errors of system calls, carried as values: exceptions are off.
#pragma once

#include <napi.h>

#include <cerrno>
#include <string>
#include <utility>

namespace lowerwatch {

// What failed and how. `number` is 0 for success.
struct SysError {
  int number = 0;
  const char* syscall = "";
  std::string detail;

  explicit operator bool() const { return number != 0; }
};

inline SysError Failure(const char* syscall, std::string detail = {}, int number = errno) {
  return SysError{number, syscall, std::move(detail)};
}

// Name of an errno value ("ENOENT"); "E<number>" for one that has no name here.
std::string ErrnoName(int number);

// A JavaScript Error with code, errno, syscall: "openat2: ENOENT: No such file or directory (path)".
Napi::Error ToJsError(Napi::Env env, const SysError& error);

}  // namespace lowerwatch
