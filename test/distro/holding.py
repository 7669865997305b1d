#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs a command while an overlay is mounted and in use.

Usage: holding.py OPTIONS COMMAND...
The overlay has these options besides its layers, none when they are empty. A process called `holder` has its working
directory there, in a mount namespace of its own, in which it is mounted once more.
"""
import os
import subprocess
import sys

from overlayfs_lib import check, libc, mount, umount

CLONE_NEWNS, MS_REC, MS_PRIVATE, PR_SET_NAME = 0x20000, 0x4000, 1 << 18, 15
TOP = "/tmp/held"


def hold(ready):
    check(libc.unshare(CLONE_NEWNS), "unshare")
    check(libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None), "private")
    mount(TOP + "/m", TOP + "/again", "", 4096)
    libc.prctl(PR_SET_NAME, b"holder")
    os.chdir(TOP + "/m")
    os.write(ready, b"1")
    libc.pause()


def main():
    os.mkdir(TOP)
    mount("layers", TOP, "tmpfs")
    for d in ("l", "u", "w", "m", "again"):
        os.mkdir(f"{TOP}/{d}")
    more = sys.argv[1] and "," + sys.argv[1]
    mount("overlay", TOP + "/m", "overlay", 0, f"lowerdir={TOP}/l,upperdir={TOP}/u,workdir={TOP}/w{more}")
    readable, ready = os.pipe()
    pid = os.fork()
    if pid == 0:
        hold(ready)
    os.read(readable, 1)
    try:
        return subprocess.run(sys.argv[2:]).returncode
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        umount(TOP + "/m")
        umount(TOP)
        os.rmdir(TOP)


if __name__ == "__main__":
    sys.exit(main())
