// SPDX-License-Identifier: MIT
// Making and moving names beneath a root: the parent is opened, the last name is used as it is.
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/bytes.h"
#include "core/handle.h"
#include "core/lane.h"
#include "sys/exports.h"
#include "sys/kernel.h"
#include "sys/resolve.h"

namespace lowerwatch {
namespace {

// The parent of `path` as an O_PATH descriptor, -1 and errno when it cannot be had or `path` has no proper last name.
int OpenParent(int root, const std::string& path, std::string& name) {
  auto [directory, last] = SplitPath(path);
  name = last;
  if (!IsName(name)) {
    errno = EINVAL;
    return -1;
  }
  return OpenBeneath(root, directory, O_PATH | O_DIRECTORY);
}

Napi::Value MakeDirectory(const Napi::CallbackInfo& info) {
  SharedFd root = Handle::From(info[1]);
  mode_t mode = info[3].IsNumber() ? info[3].As<Napi::Number>().Uint32Value() : 0700;
  return OnLane(info[0], [root, path = BytesFrom(info[2]), mode](SysError& error) {
    std::string name;
    Fd parent(OpenParent(root->get(), path, name));
    if (parent.get() < 0) {
      error = PathFailure("openat2", path);
    } else if (mkdirat(parent.get(), name.c_str(), mode) != 0) {
      error = PathFailure("mkdirat", path);
    }
  });
}

// renameat2(2), Linux 3.15.
Napi::Value Rename(const Napi::CallbackInfo& info) {
  SharedFd root = Handle::From(info[1]);
  bool noReplace = info[4].IsObject() && info[4].As<Napi::Object>().Get("noReplace").ToBoolean();
  return OnLane(
      info[0], [root, from = BytesFrom(info[2]), to = BytesFrom(info[3]), noReplace](SysError& error) {
        std::string fromName;
        std::string toName;
        Fd fromParent(OpenParent(root->get(), from, fromName));
        if (fromParent.get() < 0) {
          error = PathFailure("openat2", from);
          return;
        }
        Fd toParent(OpenParent(root->get(), to, toName));
        if (toParent.get() < 0) {
          error = PathFailure("openat2", to);
          return;
        }
        unsigned flags = noReplace ? RENAME_NOREPLACE : 0;
        if (renameat2(fromParent.get(), fromName.c_str(), toParent.get(), toName.c_str(), flags) != 0) {
          error = PathFailure("renameat2", from + " -> " + to);
        }
      });
}

}  // namespace

void ExportRename(Napi::Env env, Napi::Object exports) {
  ExportFunction<MakeDirectory>(env, exports, "makeDirectory");
  ExportFunction<Rename>(env, exports, "rename");
}

}  // namespace lowerwatch
