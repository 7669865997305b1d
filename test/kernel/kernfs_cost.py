#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What the events of kernfs cost: the same changes in cgroup2 with and without inotify watches, interleaved, in one boot.

Usage: kernfs_cost.py KERNEL [ROUNDS]
Prints nanoseconds per change (least of all), where nobody watches, another directory is watched, and those that change
are; KERNEL is put before these words.
"""
import os
import sys
import time

from overlayfs_lib import *

KERNEL = sys.argv[1]
ROUNDS = int(sys.argv[2]) if len(sys.argv) > 2 else 15

TOP = "/sys/fs/cgroup/kernfscost"
ELSEWHERE = TOP + "/elsewhere"
PARENT = TOP + "/parent"
CHILDREN = [f"{PARENT}/{i}" for i in range(10)]
IN_CREATE, IN_DELETE = 0x100, 0x200


class Watches:
    """One inotify group. Watches are there for the time of a round; a group would take a grace period to close."""

    def __init__(self):
        self.fd = check(libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC), "inotify_init1")

    def add(self, paths):
        return [
            check(libc.inotify_add_watch(self.fd, os.fsencode(p), IN_CREATE | IN_DELETE), f"inotify_add_watch {p}")
            for p in paths
        ]

    def remove(self, watches):
        for wd in watches:
            check(libc.inotify_rm_watch(self.fd, wd), "inotify_rm_watch")
        try:
            while os.read(self.fd, 1 << 16):
                pass
        except BlockingIOError:
            pass


def mkdir_and_rmdir(path):
    """Cgroups end later, on a worker: the least of short runs has none of it."""
    for _ in range(10):
        t = time.perf_counter_ns()
        for _ in range(20):
            os.mkdir(path)
            os.rmdir(path)
        yield (time.perf_counter_ns() - t) / 20


def controllers(fd):
    for _ in range(20):
        t = time.perf_counter_ns()
        os.write(fd, b"+pids")
        os.write(fd, b"-pids")
        yield time.perf_counter_ns() - t
        # A write waits until a controller that was switched off has ended. This one does nothing else.
        os.write(fd, b"-pids")


def main():
    write("/sys/fs/cgroup/cgroup.subtree_control", "+pids")
    made = [TOP, ELSEWHERE, PARENT, *CHILDREN]
    for path in made:
        os.mkdir(path)
    write(TOP + "/cgroup.subtree_control", "+pids")
    control = os.open(PARENT + "/cgroup.subtree_control", os.O_WRONLY)
    watches = Watches()
    for name, func, arg, changing in [
        ("mkdir and rmdir of a cgroup", mkdir_and_rmdir, PARENT + "/new", [PARENT]),
        (f"+pids and -pids, {len(CHILDREN)} cgroups", controllers, control, CHILDREN),
    ]:
        best = {}
        for _ in range(ROUNDS):
            for who, paths in {"nobody": [], "elsewhere": [ELSEWHERE], "watched": changing}.items():
                added = watches.add(paths)
                best[who] = min(best.get(who, 1e18), *func(arg))
                watches.remove(added)
        print(f"{name}= " + ", ".join(f"{KERNEL}_{who} {ns:.0f} ns" for who, ns in best.items()), flush=True)
    os.close(control)
    os.close(watches.fd)
    for path in reversed(made):
        os.rmdir(path)


if __name__ == "__main__":
    main()
