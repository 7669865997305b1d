#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
Overlayfs as a module: loaded, used and unloaded while the lower layers are changed all the time, and while somebody waits
for a permission event of a lower.

Usage: overlayfs_module.py OVERLAY.KO ROUNDS
       overlayfs_module.py OVERLAY.KO exec COMMAND...   (only loads it, for other tests)
For a kernel with CONFIG_OVERLAY_FS=m (kernel-patches/configs/modules.config). Exit 1 if something failed; hangs and
kernel messages are for the caller to see.
"""
import ctypes
import errno
import os
import random
import struct
import sys
import time

from overlayfs_lib import *

SYS_FINIT_MODULE, SYS_DELETE_MODULE = 313, 176
FAN_CLASS_CONTENT, FAN_MARK_ADD, FAN_OPEN_PERM, FAN_ALLOW = 4, 1, 0x10000, 1
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


def state_of(pid):
    with open(f"/proc/{pid}/stat") as f:
        return f.read().rsplit(")", 1)[1].split()[0]


def unload_while_a_permission_event_waits(path, top):
    """
    Who waits for the answer has pinned the mark of overlayfs on the lower: it gets events as before, and calls into the
    module when it goes. So unloading has to wait for the answer, too.
    """
    write(f"{top}/l1/asked")
    listener = check(libc.fanotify_init(FAN_CLASS_CONTENT, os.O_RDONLY), "fanotify_init")
    check(libc.fanotify_mark(listener, FAN_MARK_ADD, ctypes.c_uint64(FAN_OPEN_PERM), -100, f"{top}/l1/asked".encode()), "fanotify_mark")
    load(path)
    mount("overlay", f"{top}/m", "overlay", 0,
          f"lowerdir={top}/l1:{top}/l2,upperdir={top}/u,workdir={top}/w,lower_changes=notify")
    opens = os.fork()
    if opens == 0:
        os.close(os.open(f"{top}/l1/asked", os.O_RDONLY))
        os._exit(0)
    length, _, _, _, _, fd, pid = struct.unpack("=IBBHQii", os.read(listener, 24))
    assert pid == opens, f"{pid} opens, not {opens}"
    umount(f"{top}/m", 0)
    unloads = os.fork()
    if unloads == 0:
        while err_of(unload) == errno.EAGAIN:
            pass
        os._exit(0)
    # By itself it ends in a second, after some grace periods
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        write(f"{top}/l2/f")
        os.unlink(f"{top}/l2/f")
        assert state_of(unloads) != "Z", "unloaded while it may be called"
    os.write(listener, struct.pack("=iI", fd, FAN_ALLOW))
    for pid in (opens, unloads):
        assert os.waitpid(pid, 0)[1] == 0
    for each in (fd, listener):
        os.close(each)
    assert not os.path.exists("/sys/module/overlay"), "still loaded"
    write(f"{top}/l2/after")
    os.unlink(f"{top}/l2/after")
    os.unlink(f"{top}/l1/asked")


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
    unload_while_a_permission_event_waits(path, top)
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
