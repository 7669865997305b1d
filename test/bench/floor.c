// SPDX-License-Identifier: MIT
// The least that any program can do: read that something changed, drop the overlay's cache. It does not know what
// changed or whether it was cached, cannot cure what is held, and serves one overlay. The floor of the latency.
//
// usage: floor OVERLAY LOWER [ro]; prints "ready" when it watches. `ro`: the overlay has no upper.
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/mount.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <signal.h>
#include <sys/fanotify.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static int Check(int result, const char *what) {
  if (result >= 0) return result;
  perror(what);
  exit(2);
}

int main(int argc, char **argv) {
  // A benchmark that is killed leaves nothing behind.
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (argc != 3 && argc != 4) return 2;
  // fanotify_init(2), FAN_REPORT_DFID_NAME: Linux 5.9; the directory's handle is asked for only to get these events.
  int group = Check(fanotify_init(FAN_CLOEXEC | FAN_CLASS_NOTIF | FAN_REPORT_DFID_NAME, O_RDONLY), "fanotify_init");
  const unsigned long long mask =
      FAN_CREATE | FAN_DELETE | FAN_MOVED_FROM | FAN_MOVED_TO | FAN_ATTRIB | FAN_ONDIR;
  Check(fanotify_mark(group, FAN_MARK_ADD | FAN_MARK_FILESYSTEM, mask, AT_FDCWD, argv[2]), "fanotify_mark");
  // fspick(2): Linux 5.2. The context can be reconfigured again and again.
  int context = Check(syscall(SYS_fspick, AT_FDCWD, argv[1], FSPICK_CLOEXEC), "fspick");
  // Without an upper overlayfs answers EROFS to a reconfiguration that does not say read-only.
  const bool readOnly = argc == 4;
  puts("ready");
  fflush(stdout);
  static char events[65536];
  while (read(group, events, sizeof events) > 0) {
    if (readOnly) Check(syscall(SYS_fsconfig, context, FSCONFIG_SET_FLAG, "ro", NULL, 0), "fsconfig");
    Check(syscall(SYS_fsconfig, context, FSCONFIG_CMD_RECONFIGURE, NULL, NULL, 0), "fsconfig");
  }
  return 0;
}
