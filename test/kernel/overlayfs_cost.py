#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What following costs: the same operations on overlays in each mode, interleaved, in one boot.

Usage: overlayfs_cost.py [ROUNDS]
Prints nanoseconds per operation (least of all rounds) and the ratio to off. On a stock kernel only `stock`.
"""
import os
import sys
import time

from overlayfs_lib import *

ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 15


def once(func, n):
    t = time.perf_counter_ns()
    for _ in range(n):
        func()
    return (time.perf_counter_ns() - t) / n


def absent(path):
    try:
        os.stat(path)
    except FileNotFoundError:
        pass


def listing(path):
    fd = os.open(path, os.O_RDONLY)
    os.listdir(fd)
    os.close(fd)


def opened(path):
    os.close(os.open(path, os.O_RDONLY))


def main():
    patched = os.path.exists("/sys/module/overlay/parameters/lower_changes")
    modes = ["off", "manual", "notify", "reval"] if patched else ["stock"]
    benches = {}
    for m in modes:
        b = Bench(m)
        os.makedirs(b.l + "/a/b/c/d/e/f")
        write(b.l + "/a/b/c/d/e/f/file", "x")
        os.mkdir(b.l + "/list")
        for i in range(50):
            write(f"{b.l}/list/{i}", "")
        benches[m] = b.mount()
        write(b.m + "/list/up", "")
    ops = [
        ("stat of a file, 1 name", 4000, lambda b: (os.stat, b.m + "/a")),
        ("stat of a file, 7 names", 3000, lambda b: (os.stat, b.m + "/a/b/c/d/e/f/file")),
        ("stat of a missing name", 3000, lambda b: (absent, b.m + "/nothing")),
        ("open, 7 names", 1500, lambda b: (opened, b.m + "/a/b/c/d/e/f/file")),
        ("open and read a merged directory", 200, lambda b: (listing, b.m + "/list")),
        ("create and unlink in a lower", 1000, lambda b: (lambda p: (write(p), os.unlink(p)), b.l + "/new")),
    ]
    for name, n, make in ops:
        best = {}
        for _ in range(ROUNDS):
            for m in modes:
                # From a directory on tmpfs: a root on hostfs has no RCU path walk
                os.chdir(benches[m].top)
                f, arg = make(benches[m])
                arg = os.path.relpath(arg, benches[m].top)
                best[m] = min(best.get(m, 1e18), once(lambda: f(arg), n))
        ref = best[modes[0]]
        print(f"{name}: " + ", ".join(f"{m} {best[m]:.0f} ns ({best[m] / ref:.2f})" for m in modes), flush=True)
    os.chdir("/")
    for b in benches.values():
        b.close()


if __name__ == "__main__":
    main()
