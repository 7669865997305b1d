// SPDX-License-Identifier: MIT
#include "sys/mountinfo_poll.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>

namespace lowerwatch {

std::unique_ptr<MountinfoPoll> MountinfoPoll::Start(SysError& error) {
  // The table counts changes from the moment it is opened.
  int table = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
  if (table < 0) error = Failure("open", "/proc/self/mountinfo");
  int changed = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  int stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if ((changed < 0 || stop < 0) && !error) error = Failure("eventfd");
  std::unique_ptr<MountinfoPoll> poll(new MountinfoPoll(table, changed, stop));
  if (error) return nullptr;
  poll->thread_ = std::thread(&MountinfoPoll::Run, poll.get());
  return poll;
}

MountinfoPoll::~MountinfoPoll() {
  if (!thread_.joinable()) return;
  eventfd_write(stop_.get(), 1);
  thread_.join();
}

void MountinfoPoll::Run() {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
  pthread_setname_np(pthread_self(), "mountinfo");
  pollfd fds[2] = {{table_.get(), POLLPRI, 0}, {stop_.get(), POLLIN, 0}};
  while (poll(fds, 2, -1) >= 0 || errno == EINTR) {
    if (fds[1].revents != 0) return;
    if (fds[0].revents != 0) eventfd_write(changed_.get(), 1);
  }
}

}  // namespace lowerwatch
