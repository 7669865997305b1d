// SPDX-License-Identifier: MIT
#include "watch/layer.h"

#include <sys/vfs.h>

#include <cstring>

#include "core/error.h"
#include "watch/kernel.h"
#include "watch/tree.h"

namespace lowerwatch {

const char* ScopeName(Scope scope) {
  switch (scope) {
    case Scope::filesystem:
      return "filesystem";
    case Scope::inode:
      return "inode";
    case Scope::inotify:
      return "inotify";
  }
  return "";
}

Layer::Layer() = default;
Layer::~Layer() = default;

bool Layer::WantsModify(std::string_view name) const {
  return !modifyNames.empty() && modifyNames.count(std::string(name)) != 0;
}

SysError Layer::Open(SharedFd from) {
  root = std::move(from);
  readable = std::make_shared<Fd>(openat(root->get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (readable->get() < 0) return Failure("openat");
  struct stat status;
  if (fstat(readable->get(), &status) != 0) return Failure("fstat");
  device = status.st_dev;
  inode = status.st_ino;
  struct statfs system;
  if (fstatfs(readable->get(), &system) != 0) return Failure("fstatfs");
  fsid.assign(reinterpret_cast<const char*>(&system.f_fsid), sizeof(system.f_fsid));
  auto magic = static_cast<uint64_t>(system.f_type) & 0xffffffffu;
  kernfs = magic == CGROUP2_SUPER_MAGIC || magic == CGROUP_SUPER_MAGIC || magic == SYSFS_MAGIC;
  return {};
}

bool Layer::Removed() const {
  struct stat status;
  if (fstat(readable->get(), &status) != 0) return true;
  if (status.st_nlink == 0) return true;
  if (!kernfs) return false;
  // The kernel answers ENOENT for every dead directory (S_DEAD), before the file system is asked.
  char buffer[1024];
  lseek(readable->get(), 0, SEEK_SET);
  return syscall(SYS_getdents64, readable->get(), buffer, sizeof(buffer)) < 0 && errno == ENOENT;
}

}  // namespace lowerwatch
