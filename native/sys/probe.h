// SPDX-License-Identifier: MIT
// What overlayfs has cached for a name, without filling its cache.
#pragma once

#include <cstdint>
#include <string>

#include "core/handle.h"

namespace lowerwatch {

// As `Cached` in src/native.ts.
enum class Cached : uint8_t { kNone = 0, kNegative = 1, kPositive = 2, kStale = 3 };

struct Probe {
  Cached cached;
  // O_PATH descriptor when positive, else -1: the caller closes it.
  int fd;
};

// openat2(2) with O_PATH and RESOLVE_CACHED, Linux 5.12. `flags`: O_DIRECTORY for a directory, or 0.
Probe ProbeCached(int directory, const std::string& path, uint64_t flags);

// The same by a lookup that may ask the layers: where a layer has d_revalidate, "not cached" may be "could not tell".
Probe ProbeLooking(int directory, const std::string& path, uint64_t flags);

}  // namespace lowerwatch
