// SPDX-License-Identifier: MIT
#include <sys/file.h>
#include <sys/stat.h>

#include "core/bytes.h"
#include "core/handle.h"
#include "core/lane.h"
#include "sys/exports.h"
#include "sys/kernel.h"
#include "sys/resolve.h"

namespace lowerwatch {
namespace {

// flock(2) belongs to the open file: the kernel lets go of it when the process ends, however it ends.
SharedFd LockFile(const std::string& path, SysError& error) {
  if (path.find('\0') != std::string::npos) {
    error = PathFailure("open", path, EINVAL);
    return nullptr;
  }
  for (;;) {
    auto fd = std::make_shared<Fd>(open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (fd->get() < 0) {
      error = PathFailure("open", path);
      return nullptr;
    }
    if (flock(fd->get(), LOCK_EX | LOCK_NB) != 0) {
      if (errno != EWOULDBLOCK) error = PathFailure("flock", path);
      return nullptr;
    }
    // Whoever had the lock may have removed the file since it was opened here: then this lock is of no file.
    struct stat opened {};
    struct stat named {};
    if (fstat(fd->get(), &opened) == 0 && lstat(path.c_str(), &named) == 0 && opened.st_ino == named.st_ino &&
        opened.st_dev == named.st_dev) {
      return fd;
    }
  }
}

Napi::Value LockFileCall(const Napi::CallbackInfo& info) {
  return OnLane<SharedFd>(
      info[0], [path = BytesFrom(info[1])](SysError& error) { return LockFile(path, error); },
      [](Napi::Env env, SharedFd& fd) { return fd ? Handle::New(env, fd) : env.Null(); });
}

}  // namespace

void ExportLockFile(Napi::Env env, Napi::Object exports) { ExportFunction<LockFileCall>(env, exports, "lockFile"); }

}  // namespace lowerwatch
