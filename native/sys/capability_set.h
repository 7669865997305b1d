// SPDX-License-Identifier: MIT
// Capabilities of the calling thread: capget(2), capset(2). Bit n is capability n.
#pragma once

#include <cstdint>

namespace lowerwatch {

struct CapabilitySet {
  uint64_t effective = 0;
  uint64_t permitted = 0;
  uint64_t inheritable = 0;
};

// 0 or an errno. Raw system calls: they change this thread and no other.
int GetCapabilities(CapabilitySet& set);
int SetCapabilities(const CapabilitySet& set);

}  // namespace lowerwatch
