// SPDX-License-Identifier: MIT
#include "watch/reflex.h"

#include <unistd.h>

#include "sys/probe.h"
#include "sys/reconfigure.h"
#include "watch/kernel.h"

namespace lowerwatch {

Reflex::Refreshed Reflex::OnChange(int layer, const std::string& path, int64_t readAtNs) {
  Refreshed refreshed;
  if (overlay_ == nullptr || path.empty() || readAtNs < readyAtNs_) return refreshed;
  // Never blocks. What is not cached is not stale, or it is a lookup in flight, which the examination waits for.
  Probe probe = ProbeCached(overlay_->get(), path, 0);
  if (probe.fd >= 0) close(probe.fd);
  if (probe.cached == Cached::kNone) return refreshed;
  SysError error;
  int64_t spent = Reconfigure(overlay_->get(), readOnly_, error);
  int64_t now = MonotonicNs();
  readyAtNs_ = now + static_cast<int64_t>(static_cast<double>(spent) / share_);
  // The examination meets the same error, and says it.
  if (error) return refreshed;
  return Refreshed{layer, spent, now - readAtNs};
}

}  // namespace lowerwatch
