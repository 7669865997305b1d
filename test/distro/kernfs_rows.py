#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A cgroup as a lower layer where kernfs reports nothing of what the kernel makes itself (no kernfs series).

Usage: kernfs_rows.py MODE [PATTERN], with the rows and the output of overlayfs_cases.py. Each row takes care that there
was no event: what it sees, overlayfs has looked up.
"""
import errno
import os
import sys
from contextlib import contextmanager

import overlayfs_cases as cases
from overlayfs_cases import case, exists, fdls, ls, same
from overlayfs_lib import check, err_of, libc, read, write

cases.CASES.clear()
ROOT = "/sys/fs/cgroup"


@contextmanager
def cgroup_without_events(b):
    """A cgroup, watched all the time; what a user does there has events, so nothing here may be done by one."""
    path = f"{ROOT}/lwrows"
    os.mkdir(path)
    try:
        # The nodes of kernfs that were looked up before are those that an event could be about
        ls(path)
        watch = check(libc.inotify_init1(os.O_NONBLOCK), "inotify_init1")
        b.fds.append(watch)
        check(libc.inotify_add_watch(watch, os.fsencode(path), 0x100 | 0x200 | 0x40 | 0x80), "inotify_add_watch")
        yield path
        same(err_of(os.read, watch, 4096), errno.EAGAIN, "events")
    finally:
        write(f"{ROOT}/cgroup.subtree_control", "-pids")
        os.rmdir(path)


def controller(sign):
    write(f"{ROOT}/cgroup.subtree_control", f"{sign}pids")


@case()
def controller_file_appears_after_cached_enoent(b):
    b.lowers = [ROOT]
    with cgroup_without_events(b):
        b.mount()
        for _ in range(3):
            same(exists(b.m + "/lwrows/pids.max"), False)
            controller("+")
            same(read(b.m + "/lwrows/pids.max"), "max\n")
            controller("-")


@case()
def controller_file_vanishes(b):
    b.lowers = [ROOT]
    with cgroup_without_events(b):
        controller("+")
        b.mount()
        for _ in range(3):
            same(read(b.m + "/lwrows/pids.max"), "max\n")
            controller("-")
            same(exists(b.m + "/lwrows/pids.max"), False)
            controller("+")


@case()
def controller_files_in_a_held_listing_of_a_merged_dir(b):
    b.lowers = [ROOT]
    os.mkdir(b.u + "/lwrows")
    with cgroup_without_events(b):
        b.mount()
        held = b.open(b.m + "/lwrows")
        for _ in range(3):
            same("pids.max" in fdls(held) or "pids.max" in ls(b.m + "/lwrows"), False)
            controller("+")
            same("pids.max" in fdls(held) and "pids.max" in ls(b.m + "/lwrows"), True)
            controller("-")


@case(lowers=2)
def controller_file_below_a_layer_that_has_events(b):
    """Of two layers only one has to be looked up each time; the other one's changes are seen as well."""
    b.lowers = [b.lowers[0], ROOT]
    os.mkdir(b.l + "/lwrows")
    with cgroup_without_events(b):
        b.mount()
        held = b.open(b.m + "/lwrows")
        for _ in range(3):
            same((exists(b.m + "/lwrows/pids.max"), exists(b.m + "/lwrows/mine")), (False, False))
            same("pids.max" in fdls(held) or "mine" in fdls(held), False)
            controller("+")
            write(b.l + "/lwrows/mine", "1")
            same((read(b.m + "/lwrows/pids.max"), read(b.m + "/lwrows/mine")), ("max\n", "1"))
            same("pids.max" in fdls(held) and "mine" in fdls(held), True)
            controller("-")
            os.unlink(b.l + "/lwrows/mine")


if __name__ == "__main__":
    sys.exit(cases.main())
