// SPDX-License-Identifier: MIT
// Measures how long an overlay stays wrong after a change of its lower: makes the wrong answer cached, makes the
// change, and looks without pause until the answer is right. The same program measures every system, so that
// what it costs to look is the same for all.
//
// usage: poller KIND OVERLAY LOWER ROUNDS TIMEOUT_MS GAP_US
// KIND: create | replace | remove | burst | listing. One line of nanoseconds a round, -1 for never.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { kBurst = 2000 };

struct scene {
  const char *overlay;
  const char *lower;
  int round;
  // Keeps the overlay's directory open and read, in the rounds about listings.
  DIR *held;
};

static long long Now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void Die(const char *what) {
  perror(what);
  exit(1);
}

static const char *Path(const char *directory, const char *name, int number) {
  static char paths[4][PATH_MAX];
  static int next;
  char *path = paths[next++ % 4];
  snprintf(path, PATH_MAX, "%s/%s%d", directory, name, number);
  return path;
}

static void Put(const char *path, int size) {
  int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  static const char bytes[64];
  if (fd < 0 || write(fd, bytes, size) != size) Die(path);
  close(fd);
}

static long Size(const char *path) {
  struct stat s;
  return lstat(path, &s) == 0 ? (long)s.st_size : -1;
}

// The new file is written long before the change: the change is the rename alone.
static void PutBeside(const struct scene *s, int number, int size) { Put(Path(s->lower, ".new", number), size); }

static void Replace(const struct scene *s, const char *name, int number) {
  if (rename(Path(s->lower, ".new", number), Path(s->lower, name, number)) < 0) Die("rename");
}

static bool Lists(const char *directory, const char *name) {
  DIR *open = opendir(directory);
  if (!open) Die(directory);
  bool found = false;
  for (struct dirent *entry; !found && (entry = readdir(open));) found = strcmp(entry->d_name, name) == 0;
  closedir(open);
  return found;
}

// Right before the change: fills the cache with what the change makes wrong. Exits if the overlay is not as expected.
static void Warm(struct scene *s, const char *kind) {
  int n = s->round;
  if (strcmp(kind, "create") == 0 && Size(Path(s->overlay, "c", n)) >= 0) Die("create: is there already");
  if (strcmp(kind, "replace") == 0 && Size(Path(s->overlay, "r", 0)) < 0) Die("replace: is not there");
  if (strcmp(kind, "remove") == 0 && Size(Path(s->overlay, "d", n)) < 0) Die("remove: is not there");
  if (strcmp(kind, "burst") == 0)
    for (int i = 0; i < kBurst; i++)
      if (Size(Path(s->overlay, "b", i)) < 0) Die("burst: is not there");
  if (strcmp(kind, "listing") == 0) {
    s->held = opendir(s->overlay);
    if (!s->held) Die(s->overlay);
    while (readdir(s->held)) continue;
  }
}

// Returns when the changing call has: from then on the answer should be right.
static long long Change(const struct scene *s, const char *kind) {
  int n = s->round;
  if (strcmp(kind, "create") == 0 || strcmp(kind, "listing") == 0) {
    const char *path = Path(s->lower, strcmp(kind, "create") == 0 ? "c" : "l", n);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    long long changed = Now();
    if (fd < 0) Die(path);
    close(fd);
    return changed;
  }
  if (strcmp(kind, "replace") == 0) Replace(s, "r", 0);
  if (strcmp(kind, "remove") == 0 && unlink(Path(s->lower, "d", n)) < 0) Die("unlink");
  if (strcmp(kind, "burst") == 0)
    for (int i = 0; i < kBurst; i++) {
      PutBeside(s, i, 2 + n % 2);
      Replace(s, "b", i);
    }
  return Now();
}

static bool Right(const struct scene *s, const char *kind) {
  int n = s->round;
  if (strcmp(kind, "create") == 0) return Size(Path(s->overlay, "c", n)) >= 0;
  if (strcmp(kind, "replace") == 0) return Size(Path(s->overlay, "r", 0)) == 2 + n % 2;
  if (strcmp(kind, "remove") == 0) return Size(Path(s->overlay, "d", n)) < 0;
  if (strcmp(kind, "burst") == 0) {
    for (int i = 0; i < kBurst; i++)
      if (Size(Path(s->overlay, "b", i)) != 2 + n % 2) return false;
    return true;
  }
  char name[32];
  snprintf(name, sizeof name, "l%d", n);
  return Lists(s->overlay, name);
}

static void Prepare(const struct scene *s, const char *kind, int rounds) {
  if (strcmp(kind, "replace") == 0) Put(Path(s->lower, "r", 0), 3);
  if (strcmp(kind, "remove") == 0)
    for (int i = 0; i < rounds; i++) Put(Path(s->lower, "d", i), 1);
  if (strcmp(kind, "burst") == 0)
    for (int i = 0; i < kBurst; i++) Put(Path(s->lower, "b", i), 3);
}

static void Gap(long us) {
  struct timespec gap = {us / 1000000, us % 1000000 * 1000};
  nanosleep(&gap, NULL);
}

int main(int argc, char **argv) {
  // A benchmark that is killed leaves nothing behind.
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (argc != 7) {
    fprintf(stderr, "usage: poller KIND OVERLAY LOWER ROUNDS TIMEOUT_MS GAP_US\n");
    return 2;
  }
  const char *kind = argv[1];
  struct scene s = {argv[2], argv[3], 0, NULL};
  int rounds = atoi(argv[4]);
  long long timeout = atoll(argv[5]) * 1000000;
  // The gap is what makes a change isolated: whoever serves the one before it has gone quiet again, and drops
  // nothing between the look that fills the cache and the change.
  long gap = atol(argv[6]);
  Prepare(&s, kind, rounds);
  Gap(200000);
  for (; s.round < rounds; s.round++) {
    if (strcmp(kind, "replace") == 0) PutBeside(&s, 0, 2 + s.round % 2);
    Gap(gap);
    Warm(&s, kind);
    long long changed = Change(&s, kind), now;
    bool right;
    do {
      right = Right(&s, kind);
      now = Now();
    } while (!right && now - changed < timeout);
    printf("%lld\n", right ? now - changed : -1);
    fflush(stdout);
    if (s.held) closedir(s.held);
    s.held = NULL;
    // What never came right stays so for the rounds after it.
    if (!right && (strcmp(kind, "replace") == 0 || strcmp(kind, "burst") == 0)) break;
  }
  return 0;
}
