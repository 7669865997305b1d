// SPDX-License-Identifier: MIT
// One compilation: nearly all of the time went to the same headers, once for each file.
#include "core/error.cc"
#include "core/handle.cc"
#include "core/lane.cc"
#include "core/slice.cc"
