// SPDX-License-Identifier: MIT
// Not stat.h: the include path would offer it for <sys/stat.h>.
#pragma once

#include <napi.h>
#include <sys/stat.h>

#include <string>

namespace lowerwatch {

// statx(2) of one name of the directory `fd`, or of `fd` itself for ''. 0 or an errno.
int StatName(int fd, const std::string& name, struct statx* result);

// lstat of a path beneath `root`. 0 or an errno.
int StatBeneath(int root, const std::string& path, struct statx* result);

// The JavaScript object `Stat`.
Napi::Value StatTo(Napi::Env env, const struct statx& stat);

}  // namespace lowerwatch
