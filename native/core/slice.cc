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

void RequestSlice(uint64_t ns) {
  SchedAttributes attributes = {};
  if (syscall(SYS_sched_getattr, 0, &attributes, sizeof(attributes), 0) != 0) return;
  // Real-time and batch threads were made so on purpose.
  if (attributes.policy != SCHED_OTHER) return;
  attributes.size = sizeof(attributes);
  attributes.runtime = ns;
  syscall(SYS_sched_setattr, 0, &attributes, 0);
}

}  // namespace

void RequestShortSlice() { RequestSlice(sliceNs); }

// 0 stands for the kernel's own choice (__setparam_fair).
void RequestOrdinarySlice() { RequestSlice(0); }

}  // namespace lowerwatch
