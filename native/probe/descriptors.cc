// SPDX-License-Identifier: MIT
// Calls on an open descriptor that Node does not have. They run on the calling thread: the file systems that are probed
// do not hang.
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "core/bytes.h"
#include "core/error.h"
#include "probe/exports.h"
#include "sys/exports.h"

namespace lowerwatch {

namespace {

// struct linux_dirent64 of getdents64(2), which glibc does not declare.
struct Entry {
  uint64_t ino;
  int64_t offset;
  uint16_t length;
  uint8_t type;
  char name[];
};

Napi::Value Fail(Napi::Env env, const SysError& error) {
  ToJsError(env, error).ThrowAsJavaScriptException();
  return env.Undefined();
}

int Descriptor(const Napi::CallbackInfo& info) { return info[0].ToNumber().Int32Value(); }

// getdents64(2) from where the descriptor stands to the end; from the start when the second argument is true.
Napi::Value ListOpen(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  int fd = Descriptor(info);
  if (info[1].ToBoolean() && lseek(fd, 0, SEEK_SET) < 0) return Fail(env, Failure("lseek"));
  std::vector<std::string> names;
  std::vector<char> buffer(65536);
  for (;;) {
    long length = syscall(SYS_getdents64, fd, buffer.data(), buffer.size());
    if (length < 0) return Fail(env, Failure("getdents64"));
    if (length == 0) return BytesListTo(env, names);
    for (long at = 0; at < length;) {
      auto* entry = reinterpret_cast<Entry*>(buffer.data() + at);
      std::string name(entry->name);
      if (name != "." && name != "..") names.push_back(std::move(name));
      at += entry->length;
    }
  }
}

// poll(2) without waiting: the bits that are set.
Napi::Value PollNow(const Napi::CallbackInfo& info) {
  struct pollfd poll = {Descriptor(info), static_cast<short>(info[1].ToNumber().Int32Value()), 0};
  if (::poll(&poll, 1, 0) < 0) return Fail(info.Env(), Failure("poll"));
  return Napi::Number::New(info.Env(), poll.revents);
}

// openat(2); the new descriptor is the caller's.
Napi::Value OpenAt(const Napi::CallbackInfo& info) {
  int fd = openat(Descriptor(info), BytesFrom(info[1]).c_str(), info[2].ToNumber().Int32Value() | O_CLOEXEC);
  return fd < 0 ? Fail(info.Env(), Failure("openat")) : Napi::Number::New(info.Env(), fd);
}

Napi::Value MakeDirectoryAt(const Napi::CallbackInfo& info) {
  if (mkdirat(Descriptor(info), BytesFrom(info[1]).c_str(), 0755) != 0) {
    return Fail(info.Env(), Failure("mkdirat"));
  }
  return info.Env().Undefined();
}

// Writes one byte through a shared mapping and brings it to the file: mmap(2), msync(2), munmap(2).
Napi::Value WriteMapped(const Napi::CallbackInfo& info) {
  constexpr size_t length = 4096;
  void* page = mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_SHARED, Descriptor(info), 0);
  if (page == MAP_FAILED) return Fail(info.Env(), Failure("mmap"));
  *static_cast<char*>(page) = 'x';
  SysError error;
  if (msync(page, length, MS_SYNC) != 0) error = Failure("msync");
  munmap(page, length);
  return error ? Fail(info.Env(), error) : info.Env().Undefined();
}

}  // namespace

void ExportDescriptors(Napi::Env env, Napi::Object exports) {
  ExportFunction<ListOpen>(env, exports, "listOpen");
  ExportFunction<PollNow>(env, exports, "pollNow");
  ExportFunction<OpenAt>(env, exports, "openAt");
  ExportFunction<MakeDirectoryAt>(env, exports, "makeDirectoryAt");
  ExportFunction<WriteMapped>(env, exports, "writeMapped");
}

}  // namespace lowerwatch
