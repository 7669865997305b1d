// SPDX-License-Identifier: MIT
// File names are bytes. In JavaScript a byte string is a string whose character codes are the bytes (latin1).
#pragma once

#include <napi.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace lowerwatch {

inline std::string BytesFrom(const Napi::Value& value) {
  if (!value.IsString()) return {};
  size_t length = 0;
  napi_get_value_string_latin1(value.Env(), value, nullptr, 0, &length);
  std::string bytes(length, '\0');
  napi_get_value_string_latin1(value.Env(), value, bytes.data(), length + 1, &length);
  return bytes;
}

inline Napi::Value BytesTo(Napi::Env env, std::string_view bytes) {
  napi_value value = nullptr;
  napi_create_string_latin1(env, bytes.data(), bytes.size(), &value);
  return Napi::Value(env, value);
}

inline std::vector<std::string> BytesListFrom(const Napi::Value& value) {
  std::vector<std::string> list;
  if (!value.IsArray()) return list;
  Napi::Array array = value.As<Napi::Array>();
  list.reserve(array.Length());
  for (uint32_t i = 0; i < array.Length(); i++) list.push_back(BytesFrom(array.Get(i)));
  return list;
}

inline Napi::Value Uint8ArrayTo(Napi::Env env, const std::vector<uint8_t>& values) {
  Napi::Uint8Array array = Napi::Uint8Array::New(env, values.size());
  // Empty while a worker is being terminated.
  for (size_t i = 0; !array.IsEmpty() && i < values.size(); i++) array[i] = values[i];
  return array;
}

inline Napi::Value BytesListTo(Napi::Env env, const std::vector<std::string>& list) {
  Napi::Array array = Napi::Array::New(env, list.size());
  for (uint32_t i = 0; i < list.size(); i++) array.Set(i, BytesTo(env, list[i]));
  return array;
}

}  // namespace lowerwatch
