// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include "core/error.h"

namespace lowerwatch {

// Makes the overlay that `overlay` is the root of forget every dentry that nobody pins: fspick(2) and
// FSCONFIG_CMD_RECONFIGURE, Linux 5.2. `readOnly`: it has no upper. Nanoseconds spent.
int64_t Reconfigure(int overlay, bool readOnly, SysError& error);

}  // namespace lowerwatch
