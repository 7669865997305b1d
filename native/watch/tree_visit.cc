// SPDX-License-Identifier: MIT
// One step of the walk: arm a directory first, list it then.
#include <dirent.h>
#include <sys/stat.h>

#include <cstring>
#include <unordered_set>

#include "core/error.h"
#include "watch/kernel.h"
#include "watch/kind.h"
#include "watch/list.h"
#include "watch/tree.h"

namespace lowerwatch {

void Tree::Visit(Node* node) {
  std::string path;
  // Detached directories are looked at when they are attached.
  if (!PathOf(node, path)) {
    missed_ = true;
    return;
  }
  bool deep = node->deep;
  node->deep = false;
  ScopedFd fd(OpenBelow(layer_.readable->get(), path, O_RDONLY | O_DIRECTORY | O_NONBLOCK));
  if (!fd.valid()) {
    int error = errno;
    // EXDEV: something is mounted there, which no overlay on this layer sees.
    bool notOurs = error == ENOENT || error == ENOTDIR || error == ELOOP || error == EXDEV;
    if (node == root_ && notOurs) {
      listener_.RootGone(layer_);
    } else if (notOurs) {
      Drop(node);
    } else {
      Refuse(node, "openat2 " + ErrnoName(error));
    }
    return;
  }
  if (node->key.empty() && armed_ >= layer_.maxDirectories) {
    Refuse(node, "maxDirectories " + std::to_string(layer_.maxDirectories));
    return;
  }
  std::string key;
  int error = marks_.Arm(layer_, fd.get(), key);
  if (error != 0) {
    bool limit = error == ENOSPC || error == ENOMEM;
    Refuse(node, ErrnoName(error) + (limit ? std::string(": ") + marks_.LimitName() : ""));
    return;
  }
  if (unwatched_.erase(node) != 0) changed = true;
  bool other = TakeMark(node, key);
  if (!other && node->listed && !deep) return;
  bool announce = armedOnce && (other || !node->listed);
  if (announce) {
    listener_.Found(layer_, path, "", kind::directoryDirty);
    std::string above;
    if (node != root_ && PathOf(node->parent, above)) {
      listener_.Found(layer_, above, node->name, kind::attributes | kind::directory);
    }
  }
  List(node, fd.get(), path, deep || other, announce);
}

void Tree::List(Node* node, int fd, const std::string& path, bool deep, bool announce) {
  std::unordered_set<std::string> seen;
  int error = ListDirectory(fd, [&](const char* name, unsigned char type, uint64_t) {
    if (type == DT_UNKNOWN) {
      struct stat status;
      if (fstatat(fd, name, &status, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(status.st_mode)) type = DT_DIR;
    }
    if (announce) {
      listener_.Found(layer_, path, name, kind::create | (type == DT_DIR ? kind::directory : 0));
    }
    if (type != DT_DIR) return;
    auto child = node->children.find(name);
    if (child == node->children.end()) {
      Queue(Add(node, name), false);
    } else if (deep) {
      Queue(child->second, true);
    }
    seen.insert(name);
  });
  node->listed = true;
  if (error != 0 && error != ENOENT) {
    Refuse(node, "getdents64 " + ErrnoName(error));
    return;
  }
  // It may have been made since, or be gone: look.
  for (auto& [name, child] : node->children) {
    if (seen.count(name) == 0) Queue(child, false);
  }
}

}  // namespace lowerwatch
