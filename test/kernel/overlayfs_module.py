#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Overlayfs as a module: loaded, used and unloaded while the lower layers are changed all the time.

Usage: overlayfs_module.py OVERLAY.KO ROUNDS
       overlayfs_module.py OVERLAY.KO exec COMMAND...   (only loads it, for other tests)
For a kernel with CONFIG_OVERLAY_FS=m (kernel-patches/configs/modules.config). Exit 1 if something failed; hangs and
kernel messages are for the caller to see.
"""
import os
import random
import sys
import time

from overlayfs_lib import *

SYS_FINIT_MODULE, SYS_DELETE_MODULE = 313, 176
PARAMETER = "/sys/module/overlay/parameters/lower_changes"


def load(path, parameters=""):
    fd = os.open(path, os.O_RDONLY)
    try:
        check(libc.syscall(SYS_FINIT_MODULE, fd, parameters.encode(), 0), f"load {path} {parameters}")
    finally:
        os.close(fd)


def unload():
    check(libc.syscall(SYS_DELETE_MODULE, b"overlay", os.O_NONBLOCK), "unload")


def change(lower, seed):
    """Until it is killed."""
    rnd = random.Random(seed)
    while True:
        d, f = f"{lower}/{rnd.choice('abc')}", rnd.choice("xyz")
        try:
            rnd.choice([
                lambda: os.mkdir(d),
                lambda: write(f"{d}/{f}", "1"),
                lambda: os.chmod(f"{d}/{f}", rnd.choice([0o600, 0o644])),
                lambda: os.rename(f"{d}/{f}", f"{lower}/{rnd.choice('abc')}/{f}"),
                lambda: os.unlink(f"{d}/{f}"),
                lambda: os.rmdir(d),
                lambda: os.rename(d, f"{lower}/{rnd.choice('abc')}"),
            ])()
        except OSError:
            pass


def use(root, rnd, count):
    for _ in range(count):
        d, f = f"{root}/{rnd.choice('abc')}", rnd.choice("xyz")
        try:
            rnd.choice([lambda: os.listdir(d), lambda: os.stat(f"{d}/{f}"), lambda: read(f"{d}/{f}"),
                        lambda: write(f"{d}/{f}", "2"), lambda: os.unlink(f"{d}/{f}")])()
        except OSError:
            pass


def main():
    path = sys.argv[1]
    if sys.argv[2] == "exec":
        load(path)
        os.execvp(sys.argv[3], sys.argv[3:])
    rounds = int(sys.argv[2])
    rnd = random.Random(1)
    if os.path.exists("/sys/module/overlay"):
        unload()
    load(path, "lower_changes=notify")
    assert read(PARAMETER) == "notify\n", read(PARAMETER)
    unload()
    assert err_of(load, path, "lower_changes=sometimes") != 0
    top = os.path.realpath(os.environ.get("TMPDIR", "/tmp")) + "/ovl-module"
    os.mkdir(top)
    mount("layers", top, "tmpfs")
    for d in ("l1", "l2", "u", "w", "m", "u2", "w2", "m2"):
        os.mkdir(f"{top}/{d}")
    pids = []
    for i in range(2):
        pid = os.fork()
        if pid == 0:
            change(f"{top}/l{i + 1}", i)
        pids.append(pid)
    waits = 0
    try:
        for n in range(rounds):
            load(path)
            modes = [rnd.choice(["off", "manual", "notify", "notify", "reval"]) for _ in range(2)]
            for mode, x in zip(modes, ("", "2")):
                mount("overlay", f"{top}/m{x}", "overlay", 0,
                      f"lowerdir={top}/l1:{top}/l2,upperdir={top}/u{x},workdir={top}/w{x},lower_changes={mode}")
            for x in ("", "2"):
                use(f"{top}/m{x}", rnd, 100)
            reconfigure(f"{top}/m", lower_changes=rnd.choice(["manual", "notify", "reval"]))
            use(f"{top}/m", rnd, 50)
            for x in ("", "2"):
                umount(f"{top}/m{x}", rnd.choice([0, MNT_DETACH]))
            # What the umount left to a work item may hold the module for a moment
            while err_of(unload) == 11:
                waits += 1
                time.sleep(0.001)
            assert not os.path.exists("/sys/module/overlay"), "still loaded"
            assert not any(line.split()[-1] == "overlay" for line in open("/proc/filesystems"))
    finally:
        for pid in pids:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
    umount(top)
    os.rmdir(top)
    print(f"# {rounds} times loaded, used and unloaded, {waits} waits")


if __name__ == "__main__":
    sys.exit(main())
