// SPDX-License-Identifier: MIT
// fsconfig(2), Linux 5.2.
#pragma once

#include "core/error.h"

namespace lowerwatch {

// 0, or an errno with `error` set: its detail is what the file system wrote into the context's log.
int FsConfig(int context, unsigned command, const char* key, const char* value, int aux, SysError& error);

}  // namespace lowerwatch
