// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "core/error.h"

namespace lowerwatch {

// An overlay by a descriptor of its root. `readOnly`: it has no upper. `options`: those to change.
struct Reconfigured {
  int overlay;
  bool readOnly;
  std::vector<std::pair<std::string, std::string>> options = {};
};

// Makes these overlays forget every dentry that nobody pins, one right after the other: fspick(2) and
// FSCONFIG_CMD_RECONFIGURE, Linux 5.2. Nanoseconds spent.
int64_t Reconfigure(const std::vector<Reconfigured>& overlays, SysError& error);

}  // namespace lowerwatch
