// SPDX-License-Identifier: MIT
#pragma once

namespace lowerwatch {

// Asks for a short time slice (100 us) for the calling thread, which works little and should start soon: since
// Linux 6.12 a waking thread with a shorter slice preempts one that has a longer one, instead of waiting for the end
// of its slice (some 3 ms). Gives no larger share of the processor and needs no privilege. sched_setattr(2); older
// kernels take and ignore it.
void RequestShortSlice();

// Takes that back, for a thread that works for milliseconds: threads inherit the slice of the one that starts them,
// and a short one would preempt those who serve changes.
void RequestOrdinarySlice();

}  // namespace lowerwatch
