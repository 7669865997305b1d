// SPDX-License-Identifier: MIT
#include "core/error.h"

#include <cstring>

namespace lowerwatch {

std::string ErrnoName(int number) {
  const char* name = strerrorname_np(number);
  if (name != nullptr) return name;
  std::string unknown("E");
  return unknown.append(std::to_string(number));
}

Napi::Error ToJsError(Napi::Env env, const SysError& error) {
  std::string name = ErrnoName(error.number);
  const char* text = strerrordesc_np(error.number);
  std::string message = std::string(error.syscall) + ": " + name + ": " + (text ? text : "unknown error");
  if (!error.detail.empty()) message += " (" + error.detail + ")";
  Napi::Error result = Napi::Error::New(env, message);
  result.Set("code", Napi::String::New(env, name));
  result.Set("errno", Napi::Number::New(env, error.number));
  result.Set("syscall", Napi::String::New(env, error.syscall));
  return result;
}

}  // namespace lowerwatch
