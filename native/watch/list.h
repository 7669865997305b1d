// SPDX-License-Identifier: MIT
// Reading a directory to its end.
#pragma once

#include <cstdint>
#include <functional>

namespace lowerwatch {

// getdents64(2) from the current position, without '.' and '..'. `type` is DT_*. Returns 0 or errno.
using ListEntry = std::function<void(const char* name, unsigned char type, uint64_t inode)>;
int ListDirectory(int fd, const ListEntry& entry);

}  // namespace lowerwatch
