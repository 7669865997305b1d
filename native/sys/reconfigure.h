// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <vector>

#include "core/error.h"

namespace lowerwatch {

// An overlay by a descriptor of its root. `readOnly`: it has no upper.
struct Reconfigured {
  int overlay;
  bool readOnly;
};

// Makes these overlays forget every dentry that nobody pins, one right after the other: fspick(2) and
// FSCONFIG_CMD_RECONFIGURE, Linux 5.2. Nanoseconds spent.
int64_t Reconfigure(const std::vector<Reconfigured>& overlays, SysError& error);

}  // namespace lowerwatch
