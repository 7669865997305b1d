// SPDX-License-Identifier: MIT
#include "watch/snapshot.h"

#include <dirent.h>
#include <sys/stat.h>

#include <utility>

#include "watch/kernel.h"
#include "watch/kind.h"
#include "watch/list.h"

namespace lowerwatch {

namespace {

std::string Join(const std::string& directory, const std::string& name) {
  return directory.empty() ? name : directory + '/' + name;
}

// There is nothing there that belongs to the layer: removed, not a directory, a link, another mount.
bool IsAbsence(int error) { return error == ENOENT || error == ENOTDIR || error == ELOOP || error == EXDEV; }

}  // namespace

int SnapshotStore::Look(const std::string& directory, Listing& listing) const {
  ScopedFd fd(OpenBelow(root_->get(), directory, O_RDONLY | O_DIRECTORY | O_NONBLOCK));
  if (!fd.valid()) return errno;
  return ListDirectory(fd.get(), [&](const char* name, unsigned char type, uint64_t inode) {
    Item item;
    item.type = type;
    item.inode = inode;
    struct stat status;
    if (attributes_ || type == DT_UNKNOWN) {
      // Removed while we list: as if it had been before.
      if (fstatat(fd.get(), name, &status, AT_SYMLINK_NOFOLLOW) != 0) return;
      item.type = IFTODT(status.st_mode);
    }
    if (attributes_) {
      item.inode = status.st_ino;
      item.device = status.st_dev;
      item.mode = status.st_mode;
      item.uid = status.st_uid;
      item.gid = status.st_gid;
      item.changedNs = status.st_ctim.tv_sec * 1000000000LL + status.st_ctim.tv_nsec;
    }
    listing.names.emplace(name, item);
  });
}

void SnapshotStore::Compare(const std::string& directory, const Listing& before, const Listing& now,
                            Changes& changes) const {
  for (auto& [name, old] : before.names) {
    auto found = now.names.find(name);
    uint32_t kinds = 0;
    if (found == now.names.end()) {
      kinds = kind::remove;
    } else if (old.inode != found->second.inode || old.device != found->second.device ||
               old.type != found->second.type) {
      kinds = kind::remove | kind::create;
    } else if (old.mode != found->second.mode || old.uid != found->second.uid || old.gid != found->second.gid ||
               old.changedNs != found->second.changedNs) {
      // The time alone changes with an xattr too, and those make whiteouts and opaque directories.
      kinds = kind::attributes;
    }
    if (kinds == 0) continue;
    bool wasDirectory = old.type == DT_DIR;
    bool isDirectory = found != now.names.end() && found->second.type == DT_DIR;
    changes.push_back({directory, name, kinds | (wasDirectory || isDirectory ? kind::directory : 0)});
  }
  for (auto& [name, item] : now.names) {
    if (before.names.count(name) != 0) continue;
    changes.push_back({directory, name, kind::create | (item.type == DT_DIR ? kind::directory : 0)});
  }
}

void SnapshotStore::Forget(const std::string& directory) {
  auto at = listings_.find(directory);
  if (at != listings_.end()) listings_.erase(at);
  std::string prefix = directory.empty() ? "" : directory + '/';
  auto first = listings_.lower_bound(prefix);
  auto last = first;
  while (last != listings_.end() && last->first.compare(0, prefix.size(), prefix) == 0) ++last;
  listings_.erase(first, last);
}

std::vector<SnapshotChange> SnapshotStore::Rescan(const std::string& top, bool recursive, SysError& error) {
  std::lock_guard<std::mutex> lock(mutex_);
  Changes changes;
  std::vector<std::string> stack{top};
  while (!stack.empty()) {
    std::string directory = std::move(stack.back());
    stack.pop_back();
    Listing now;
    int failed = Look(directory, now);
    auto known = listings_.find(directory);
    if (failed != 0 && IsAbsence(failed)) {
      // What was in it is told once; the directory's own name is told where it lies.
      if (known != listings_.end()) Compare(directory, known->second, Listing{}, changes);
      Forget(directory);
      continue;
    }
    if (failed != 0) {
      // The rest can still be looked at; what could not be read may be anything.
      changes.push_back({directory, "", kind::directoryDirty});
      if (directory == top) error = Failure("openat2", directory, failed);
      continue;
    }
    if (known != listings_.end()) {
      size_t from = changes.size();
      Compare(directory, known->second, now, changes);
      for (size_t i = from; i < changes.size(); i++) {
        bool replaced = (changes[i].kind & (kind::remove | kind::directory)) == (kind::remove | kind::directory);
        if (replaced) Forget(Join(directory, changes[i].name));
      }
    }
    if (recursive) {
      for (auto& [name, item] : now.names) {
        if (item.type == DT_DIR) stack.push_back(Join(directory, name));
      }
    }
    if (known != listings_.end()) {
      known->second = std::move(now);
    } else if (listings_.size() < maxDirectories_) {
      listings_.emplace(std::move(directory), std::move(now));
    } else {
      changes.push_back({std::move(directory), "", kind::directoryDirty});
    }
  }
  return changes;
}

size_t SnapshotStore::directories() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return listings_.size();
}

}  // namespace lowerwatch
