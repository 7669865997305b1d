// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

namespace lowerwatch {

struct DirectoryEntry {
  std::string_view name;
  uint64_t ino;
  uint8_t type;
};

// getdents64(2) of the directory `fd` from where it stands to its end, without '.' and '..'. 0 or an errno.
int ReadEntries(int fd, const std::function<void(const DirectoryEntry&)>& each);

}  // namespace lowerwatch
