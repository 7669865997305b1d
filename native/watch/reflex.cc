// SPDX-License-Identifier: MIT
#include "watch/reflex.h"

#include <sys/stat.h>
#include <unistd.h>

#include "sys/file_stat.h"
#include "sys/probe.h"
#include "sys/reconfigure.h"
#include "watch/kernel.h"

namespace lowerwatch {

// A file (or whiteout) of the upper stands for itself, whatever the lowers do.
bool Reflex::HiddenByUpper(const std::string& path) const {
  struct statx status;
  return upper_ != nullptr && StatBeneath(upper_->get(), path, &status) == 0 && !S_ISDIR(status.stx_mode);
}

Reflex::Refreshed Reflex::OnChange(int layer, const std::string& path, int64_t readAtNs) {
  Refreshed refreshed;
  if (overlay_ == nullptr || path.empty() || readAtNs < readyAtNs_) return refreshed;
  // Never blocks. What is not cached is not stale, or it is a lookup in flight, which the examination waits for.
  Probe probe = ProbeCached(overlay_->get(), path, 0);
  if (probe.fd >= 0) close(probe.fd);
  if (probe.cached == Cached::kNone || HiddenByUpper(path)) return refreshed;
  SysError error;
  int64_t spent = Reconfigure({{overlay_->get(), upper_ == nullptr}}, error);
  int64_t now = MonotonicNs();
  readyAtNs_ = now + static_cast<int64_t>(static_cast<double>(spent) / share_);
  // The examination meets the same error, and says it.
  if (error) return refreshed;
  return Refreshed{layer, spent, now - readAtNs};
}

}  // namespace lowerwatch
