// SPDX-License-Identifier: MIT
// Paths below a root that others can write: nothing in them leads out of it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "core/error.h"

namespace lowerwatch {

// openat2(2), Linux 5.6: O_CLOEXEC | O_NOFOLLOW | `flags`, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS |
// RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV | `resolve`. '' is the root itself. -1 and errno on failure.
int OpenBeneath(int root, const std::string& path, uint64_t flags, uint64_t mode = 0, uint64_t resolve = 0);

// A path in its directory ('' for the root) and its last name.
std::pair<std::string, std::string> SplitPath(const std::string& path);

// True for a name of exactly one component that is neither '.' nor '..'.
bool IsName(std::string_view name);

// "openat2: ENOENT: ... (path)" with the path readable on one line.
SysError PathFailure(const char* syscall, std::string_view path, int number = errno);

// Opens the directory for reading. O_NOATIME where permitted, so that looking leaves no trace. -1 and errno.
int OpenDirectory(int root, const std::string& path);

}  // namespace lowerwatch
