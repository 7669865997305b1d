// SPDX-License-Identifier: MIT
// Reading a directory to its end.
#pragma once

#include <functional>

namespace lowerwatch {

// getdents64(2) from the current position, without '.' and '..'. `type` is DT_*. Returns 0 or errno.
int ListDirectory(int fd, const std::function<void(const char* name, unsigned char type)>& entry);

}  // namespace lowerwatch
