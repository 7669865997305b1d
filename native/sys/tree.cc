// SPDX-License-Identifier: MIT
// Removing a tree. Every step goes from an open directory to one name in it, so that no rename or link that somebody
// puts in the way can lead it elsewhere.
#include <dirent.h>
#include <unistd.h>

#include <vector>

#include "core/bytes.h"
#include "core/handle.h"
#include "core/lane.h"
#include "sys/directory.h"
#include "sys/exports.h"
#include "sys/file_stat.h"
#include "sys/kernel.h"
#include "sys/resolve.h"

namespace lowerwatch {
namespace {

class Remover {
 public:
  Remover(bool dryRun, SysError& error) : dryRun_(dryRun), error_(error) {}

  // Removes `name` of the directory `parent`; `path` is what is reported. Contents first.
  void Remove(int parent, const std::string& name, const std::string& path, int depth) {
    struct statx stat {};
    int failed = StatName(parent, name, &stat);
    if (failed == 0 && (stat.stx_attributes & STATX_ATTR_MOUNT_ROOT)) failed = EXDEV;
    if (failed) return Fail("statx", path, failed);
    bool directory = S_ISDIR(stat.stx_mode);
    if (directory) Contents(parent, name, path, depth);
    if (error_) return;
    if (!dryRun_ && unlinkat(parent, name.c_str(), directory ? AT_REMOVEDIR : 0) != 0) {
      return Fail("unlinkat", path, errno);
    }
    paths_.push_back(path);
  }

  std::vector<std::string> Take() { return std::move(paths_); }

 private:
  // Deeper than any path the kernel takes (PATH_MAX 4096); one descriptor and one stack frame a level.
  static constexpr int kDeepest = 2048;

  void Contents(int parent, const std::string& name, const std::string& path, int depth) {
    if (depth > kDeepest) return Fail("openat2", path, ENAMETOOLONG);
    Fd fd(OpenDirectory(parent, name));
    if (fd.get() < 0) return Fail("openat2", path, errno);
    std::vector<std::string> names;
    int failed = ReadEntries(fd.get(), [&](const DirectoryEntry& entry) { names.emplace_back(entry.name); });
    if (failed) return Fail("getdents64", path, failed);
    for (const std::string& entry : names) {
      if (!error_) Remove(fd.get(), entry, path + "/" + entry, depth + 1);
    }
  }

  void Fail(const char* syscall, const std::string& path, int number) {
    error_ = PathFailure(syscall, path, number);
    if (!dryRun_) error_.detail += "; removed " + std::to_string(paths_.size()) + " before";
  }

  bool dryRun_;
  SysError& error_;
  std::vector<std::string> paths_;
};

std::vector<std::string> RemoveTree(int root, const std::string& path, bool dryRun, SysError& error) {
  auto [directory, name] = SplitPath(path);
  Fd parent(IsName(name) ? OpenBeneath(root, directory, O_PATH | O_DIRECTORY) : -1);
  if (parent.get() < 0) {
    error = PathFailure("openat2", path, IsName(name) ? errno : EINVAL);
    return {};
  }
  // A walk that removes nothing goes first: a tree with a mount in it is refused whole, not half.
  Remover look(true, error);
  look.Remove(parent.get(), name, path, 0);
  if (dryRun || error) return look.Take();
  Remover remover(false, error);
  remover.Remove(parent.get(), name, path, 0);
  return remover.Take();
}

Napi::Value RemoveTreeCall(const Napi::CallbackInfo& info) {
  SharedFd root = Handle::From(info[1]);
  bool dryRun = info[3].IsObject() && info[3].As<Napi::Object>().Get("dryRun").ToBoolean();
  return OnLane<std::vector<std::string>>(
      info[0],
      [root, path = BytesFrom(info[2]), dryRun](SysError& error) {
        return RemoveTree(root->get(), path, dryRun, error);
      },
      BytesListTo);
}

}  // namespace

void ExportTree(Napi::Env env, Napi::Object exports) { ExportFunction<RemoveTreeCall>(env, exports, "removeTree"); }

}  // namespace lowerwatch
