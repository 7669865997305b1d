// SPDX-License-Identifier: MIT
#include "sys/directory.h"

#include <unistd.h>

#include <cerrno>
#include <string>
#include <vector>

#include "core/bytes.h"
#include "core/handle.h"
#include "core/lane.h"
#include "sys/exports.h"
#include "sys/kernel.h"
#include "sys/resolve.h"

namespace lowerwatch {
namespace {

// struct linux_dirent64, which no header offers.
struct RawEntry {
  uint64_t ino;
  int64_t offset;
  uint16_t length;
  uint8_t type;
  char name[];
};

}  // namespace

int ReadEntries(int fd, const std::function<void(const DirectoryEntry&)>& each) {
  alignas(RawEntry) char buffer[32768];
  for (;;) {
    long length = syscall(SYS_getdents64, fd, buffer, sizeof(buffer));
    if (length < 0) return errno;
    if (length == 0) return 0;
    for (long at = 0; at < length;) {
      auto* raw = reinterpret_cast<RawEntry*>(buffer + at);
      at += raw->length;
      std::string_view name(raw->name);
      if (name != "." && name != "..") each({name, raw->ino, raw->type});
    }
  }
}

namespace {

struct Entry {
  std::string name;
  uint64_t ino;
  uint8_t type;
};

std::vector<Entry> ReadAll(int root, const std::string& path, SysError& error) {
  std::vector<Entry> entries;
  Fd fd(OpenDirectory(root, path));
  if (fd.get() < 0) {
    error = PathFailure("openat2", path);
    return entries;
  }
  int failed = ReadEntries(fd.get(), [&](const DirectoryEntry& entry) {
    entries.push_back({std::string(entry.name), entry.ino, entry.type});
  });
  if (failed) error = PathFailure("getdents64", path, failed);
  return entries;
}

Napi::Value ReadDirectory(const Napi::CallbackInfo& info) {
  SharedFd root = Handle::From(info[1]);
  return OnLane<std::vector<Entry>>(
      info[0],
      [root, path = BytesFrom(info[2])](SysError& error) { return ReadAll(root->get(), path, error); },
      [](Napi::Env env, std::vector<Entry>& entries) -> Napi::Value {
        Napi::Array list = Napi::Array::New(env, entries.size());
        for (uint32_t i = 0; i < entries.size(); i++) {
          Napi::HandleScope scope(env);
          Napi::Object object = Napi::Object::New(env);
          object.Set("name", BytesTo(env, entries[i].name));
          object.Set("ino", Napi::BigInt::New(env, entries[i].ino));
          object.Set("type", Napi::Number::New(env, entries[i].type));
          list.Set(i, object);
        }
        return list;
      });
}

}  // namespace

void ExportDirectory(Napi::Env env, Napi::Object exports) {
  ExportFunction<ReadDirectory>(env, exports, "readDirectory");
}

}  // namespace lowerwatch
