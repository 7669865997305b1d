// SPDX-License-Identifier: MIT
#include "core/slice.h"

#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>

namespace lowerwatch {

namespace {

constexpr uint64_t sliceNs = 100000;

// include/uapi/linux/sched/types.h; glibc has no declaration before 2.41.
struct SchedAttributes {
  uint32_t size;
  uint32_t policy;
  uint64_t flags;
  int32_t nice;
  uint32_t priority;
  uint64_t runtime;
  uint64_t deadline;
  uint64_t period;
};

}  // namespace

void RequestShortSlice() {
  SchedAttributes attributes = {};
  if (syscall(SYS_sched_getattr, 0, &attributes, sizeof(attributes), 0) != 0) return;
  // Real-time and batch threads were made so on purpose.
  if (attributes.policy != SCHED_OTHER) return;
  attributes.size = sizeof(attributes);
  attributes.runtime = sliceNs;
  syscall(SYS_sched_setattr, 0, &attributes, 0);
}

}  // namespace lowerwatch
