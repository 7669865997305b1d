// SPDX-License-Identifier: MIT
// One compilation: nearly all of the time went to the same headers, once for each file.
#include "probe/descriptors.cc"
#include "probe/devices.cc"
#include "probe/event_group.cc"
#include "probe/exports.cc"
