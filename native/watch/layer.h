// SPDX-License-Identifier: MIT
// One watched layer as the reader thread sees it.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_set>
#include <vector>

#include "core/error.h"
#include "core/handle.h"
#include "watch/reflex.h"

namespace lowerwatch {

enum class Scope { filesystem, inode, inotify };

const char* ScopeName(Scope scope);

// What JavaScript sees as ArmedLayer.
struct LayerState {
  Scope scope = Scope::filesystem;
  std::vector<std::string> reasons;
  size_t directories = 0;
  std::vector<std::string> unwatched;
  std::string unwatchedReason;
};

class Tree;

struct Layer {
  int id = 0;
  SharedFd root;
  // `root` opened for reading: open_by_handle_at(2) and fanotify_mark(2) take no O_PATH descriptor.
  SharedFd readable;
  dev_t device = 0;
  ino_t inode = 0;
  // f_fsid of statfs(2), as bytes: the same that fanotify reports.
  std::string fsid;
  // Built on kernfs, where the link count of a removed directory does not become 0.
  bool kernfs = false;
  Scope scope = Scope::filesystem;
  std::vector<std::string> reasons;
  std::unordered_set<std::string> modifyNames;
  size_t maxDirectories = 0;
  bool gone = false;
  Reflex reflex;
  // Null for scope `filesystem`.
  std::unique_ptr<Tree> tree;

  Layer();
  ~Layer();

  // True when a change of the content of a file by this name is to be reported.
  bool WantsModify(std::string_view name) const;
  // Fills everything that comes from `root`.
  SysError Open(SharedFd from);
  // True when the directory was removed: it has no links or, on kernfs, cannot be listed any more.
  bool Removed() const;
};

}  // namespace lowerwatch
