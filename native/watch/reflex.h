// SPDX-License-Identifier: MIT
// The shortest way from an event to a refresh: the reader thread itself makes the overlay forget, when something is
// cached for the name and the overlay has been quiet. What follows (the barrier, the facts, the verification) is the
// same as without it; this only comes first, and saves four changes of thread.
#pragma once

#include <cstdint>
#include <string>

#include "core/handle.h"

namespace lowerwatch {

class Reflex {
 public:
  // What was done, for the statistics. spentNs is 0 when nothing was.
  struct Refreshed {
    int layer = 0;
    int64_t spentNs = 0;
    // From reading the event.
    int64_t latencyNs = 0;
  };

  Reflex() = default;
  // `share`: of wall time, that refreshes may take.
  Reflex(SharedFd overlay, SharedFd upper, double share)
      : overlay_(std::move(overlay)), upper_(std::move(upper)), share_(share) {}

  Refreshed OnChange(int layer, const std::string& path, int64_t readAtNs);

 private:
  bool HiddenByUpper(const std::string& path) const;

  SharedFd overlay_;
  // Null for an overlay without an upper.
  SharedFd upper_;
  double share_ = 0;
  int64_t readyAtNs_ = 0;
};

}  // namespace lowerwatch
