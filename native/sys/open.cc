// SPDX-License-Identifier: MIT
// Opening roots and what lies beneath them.
#include <fcntl.h>
#include <unistd.h>

#include "core/bytes.h"
#include "core/handle.h"
#include "core/lane.h"
#include "sys/exports.h"
#include "sys/kernel.h"
#include "sys/resolve.h"

namespace lowerwatch {
namespace {

Napi::Value HandleTo(Napi::Env env, SharedFd& fd) { return Handle::New(env, fd); }

// open_tree(2), Linux 5.2. The clone has no mounts below (no AT_RECURSIVE). Without a clone it is an open(2) with O_PATH;
// containers whose seccomp filter takes it for a call of administrators (EPERM) have that.
SharedFd OpenTree(const std::string& path, bool clone, SysError& error) {
  if (path.find('\0') != std::string::npos) {
    error = PathFailure("open_tree", path, EINVAL);
    return nullptr;
  }
  unsigned flags = OPEN_TREE_CLOEXEC | (clone ? OPEN_TREE_CLONE : 0);
  auto tree = std::make_shared<Fd>(static_cast<int>(syscall(SYS_open_tree, AT_FDCWD, path.c_str(), flags)));
  if (tree->get() < 0 && !clone && (errno == EPERM || errno == ENOSYS)) {
    tree = std::make_shared<Fd>(open(path.c_str(), O_PATH | O_CLOEXEC));
  }
  if (tree->get() < 0) {
    error = PathFailure("open_tree", path);
    return nullptr;
  }
  if (clone) {
    // A clone of a shared mount is its peer, and since 6.15 mounts propagate into detached trees: a mount made
    // later below the original would appear in ours and pin that file system. mount_setattr(2), Linux 5.12.
    mount_attr attributes{};
    attributes.propagation = MS_PRIVATE;
    if (syscall(SYS_mount_setattr, tree->get(), "", AT_EMPTY_PATH, &attributes, sizeof(attributes)) != 0 &&
        errno != ENOSYS) {
      error = PathFailure("mount_setattr", path);
      return nullptr;
    }
  }
  return tree;
}

Napi::Value OpenTreeCall(const Napi::CallbackInfo& info) {
  bool clone = info[2].IsObject() && info[2].As<Napi::Object>().Get("clone").ToBoolean();
  return OnLane<SharedFd>(
      info[0], [path = BytesFrom(info[1]), clone](SysError& error) { return OpenTree(path, clone, error); },
      HandleTo);
}

Napi::Value OpenBeneathCall(const Napi::CallbackInfo& info) {
  SharedFd root = Handle::From(info[1]);
  uint32_t flags = info[3].IsNumber() ? info[3].As<Napi::Number>().Uint32Value() : 0;
  uint32_t mode = info[4].IsNumber() ? info[4].As<Napi::Number>().Uint32Value() : 0;
  return OnLane<SharedFd>(
      info[0],
      [root, path = BytesFrom(info[2]), flags, mode](SysError& error) -> SharedFd {
        int fd = OpenBeneath(root->get(), path, flags, mode);
        if (fd >= 0) return std::make_shared<Fd>(fd);
        error = PathFailure("openat2", path);
        return nullptr;
      },
      HandleTo);
}

Napi::Value ReadLink(const Napi::CallbackInfo& info) {
  SharedFd root = Handle::From(info[1]);
  return OnLane<std::string>(
      info[0],
      [root, path = BytesFrom(info[2])](SysError& error) -> std::string {
        Fd fd(OpenBeneath(root->get(), path, O_PATH));
        std::string target(4096, '\0');
        ssize_t length = fd.get() < 0 ? -1 : readlinkat(fd.get(), "", target.data(), target.size());
        if (length < 0) error = PathFailure(fd.get() < 0 ? "openat2" : "readlinkat", path);
        target.resize(length < 0 ? 0 : static_cast<size_t>(length));
        return target;
      },
      [](Napi::Env env, std::string& target) { return BytesTo(env, target); });
}

}  // namespace

void ExportOpen(Napi::Env env, Napi::Object exports) {
  ExportFunction<OpenTreeCall>(env, exports, "openTree");
  ExportFunction<OpenBeneathCall>(env, exports, "openBeneath");
  ExportFunction<ReadLink>(env, exports, "readLink");
}

}  // namespace lowerwatch
