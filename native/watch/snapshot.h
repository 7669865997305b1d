// SPDX-License-Identifier: MIT
// What directories had in them at the last look, for changes that no event tells.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/error.h"
#include "core/handle.h"

namespace lowerwatch {

struct SnapshotChange {
  std::string directory;
  std::string name;
  uint32_t kind;
};

class SnapshotStore {
 public:
  SnapshotStore(SharedFd root, bool attributes, size_t maxDirectories)
      : root_(std::move(root)), attributes_(attributes), maxDirectories_(maxDirectories) {}

  // Blocking. Looks of one snapshot follow each other, whatever lanes they come from.
  std::vector<SnapshotChange> Rescan(const std::string& directory, bool recursive, SysError& error);
  size_t directories() const;

 private:
  struct Item {
    uint64_t inode = 0;
    uint64_t device = 0;
    unsigned char type = 0;
    // Only with `attributes`.
    uint32_t mode = 0;
    uint32_t uid = 0;
    uint32_t gid = 0;
    int64_t changedNs = 0;
  };
  struct Listing {
    std::unordered_map<std::string, Item> names;
  };
  using Changes = std::vector<SnapshotChange>;

  // ENOENT when there is no such directory any more.
  int Look(const std::string& directory, Listing& listing) const;
  void Compare(const std::string& directory, const Listing& before, const Listing& now, Changes& changes) const;
  void Forget(const std::string& directory);

  const SharedFd root_;
  const bool attributes_;
  const size_t maxDirectories_;
  mutable std::mutex mutex_;
  // Ordered, so that all that is below a path lies together.
  std::map<std::string, Listing> listings_;
};

}  // namespace lowerwatch
