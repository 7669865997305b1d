#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What following costs: the same operations on overlays in each mode, interleaved, in one boot.

Usage: overlayfs_cost.py [ROUNDS]
Prints nanoseconds per operation (least of all rounds) and the ratio to off. On a stock kernel only `stock`. What each further
name of a path costs is the difference of a long and a short one: nothing of it is the system call itself.
"""
import os
import sys
import time

from overlayfs_lib import *

ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 15


# So many directories of the deep path below the first one: there the walk costs more than the system call around it
DEEP = 100


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


def deep(top):
    """A directory d in `top`, and DEEP more, each in the one before."""
    path = top
    for _ in range(DEEP + 1):
        path += "/d"
        os.mkdir(path)


def on_tmpfs(mode):
    b = Bench(mode)
    deep(b.l)
    os.makedirs(b.l + "/a/b/c/d/e/f")
    write(b.l + "/a/b/c/d/e/f/file", "x")
    os.mkdir(b.l + "/list")
    for i in range(50):
        write(f"{b.l}/list/{i}", "")
    b.mount()
    write(b.m + "/list/up", "")
    b.rewind = b.open(b.m + "/list")
    return b


def on_cgroup2(mode):
    b = Bench(mode)
    b.lowers = [f"/sys/fs/cgroup/ovlcost-{mode}"]
    b.l = b.lowers[0]
    os.mkdir(b.l)
    deep(b.l)
    return b.mount()


def remove_cgroups(top):
    for path, _, _ in os.walk(top, topdown=False):
        os.rmdir(path)


walk = [
    ("stat of a directory, 1 name", 4000, lambda b: (os.stat, "m/d")),
    (f"stat of a directory, {DEEP + 1} names", 1000, lambda b: (os.stat, "m" + "/d" * (DEEP + 1))),
    ("stat of a missing name", 3000, lambda b: (absent, "m/nothing")),
]
layers = {
    "": (
        on_tmpfs,
        walk
        + [
            ("stat of a file, 7 names", 3000, lambda b: (os.stat, "m/a/b/c/d/e/f/file")),
            ("open, 7 names", 1500, lambda b: (opened, "m/a/b/c/d/e/f/file")),
            ("open and read a merged directory", 200, lambda b: (listing, "m/list")),
            # listdir() begins with a rewind
            ("rewind and read a merged directory", 300, lambda b: (os.listdir, b.rewind)),
            ("create and unlink in a lower", 1000, lambda b: (lambda p: (write(p), os.unlink(p)), "l1/new")),
        ],
    ),
    "cgroup2: ": (
        on_cgroup2,
        walk
        + [
            ("stat of a file, 2 names", 3000, lambda b: (os.stat, "m/d/cgroup.procs")),
            ("open and read a directory", 200, lambda b: (listing, "m/d")),
        ],
    ),
}


def say(name, cost):
    ref = next(iter(cost.values()))
    print(f"{name}= " + ", ".join(f"{m} {ns:.0f} ns ({ns / ref:.2f})" for m, ns in cost.items()), flush=True)


def measure(where, benches, ops):
    costs = {}
    for name, n, make in ops:
        costs[name] = best = {}
        for _ in range(ROUNDS):
            for m, b in benches.items():
                # From a directory on tmpfs: a root on hostfs has no RCU path walk
                os.chdir(b.top)
                f, arg = make(b)
                best[m] = min(best.get(m, 1e18), once(lambda: f(arg), n))
        say(where + name, best)
    one, many = (costs[name] for name, _, _ in walk[:2])
    say(where + "each further name of a path", {m: (many[m] - one[m]) / DEEP for m in benches})


def main():
    patched = os.path.exists("/sys/module/overlay/parameters/lower_changes")
    modes = ["off", "manual", "notify", "reval"] if patched else ["stock"]
    for where, (make, ops) in layers.items():
        benches = {m: make(m) for m in modes}
        measure(where, benches, ops)
        os.chdir("/")
        for b in benches.values():
            b.close()
            if make is on_cgroup2:
                remove_cgroups(b.l)


if __name__ == "__main__":
    main()
