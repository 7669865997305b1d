// SPDX-License-Identifier: MIT
// poll(2) on /proc/self/mountinfo, turned into a descriptor that becomes readable.
//
// A thread, because epoll cannot do it: mountinfo reports a change to the first poll that asks, and epoll asks twice
// (once when the descriptor is added, which libuv does later than it says), so a change in between is lost.
#pragma once

#include <memory>
#include <thread>

#include "core/error.h"
#include "core/handle.h"

namespace lowerwatch {

class MountinfoPoll {
 public:
  // Armed when it returns: later changes make fd() readable. Null with `error` set when that cannot be.
  static std::unique_ptr<MountinfoPoll> Start(SysError& error);
  ~MountinfoPoll();
  // eventfd(2), non-blocking.
  int fd() const { return changed_.get(); }

 private:
  MountinfoPoll(int table, int changed, int stop) : table_(table), changed_(changed), stop_(stop) {}
  void Run();

  Fd table_;
  Fd changed_;
  Fd stop_;
  std::thread thread_;
};

}  // namespace lowerwatch
