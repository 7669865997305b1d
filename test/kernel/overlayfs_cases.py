#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Coherence of an overlay whose lower layers change, one case a row.

Usage: overlayfs_cases.py MODE [PATTERN]
MODE: stock (no option), manual (with the ioctl), notify or reval.
Each case must hold when the changing call has returned: nothing here waits.
Prints `ok NAME`, `not ok NAME: why` or `skip NAME: why`, then the numbers; exit 1 if a case failed.
"""
import contextlib
import errno
import fcntl
import fnmatch
import mmap
import os
import shutil
import signal
import stat
import struct
import subprocess
import sys
import time
import traceback

from overlayfs_lib import *

CASES = []
MODE = sys.argv[1] if len(sys.argv) > 1 else "notify"
KERNEL = tuple(int(n) for n in os.uname().release.split("-")[0].split(".")[:2])


class Skip(Exception):
    pass


def case(**bench):
    def add(func):
        CASES.append((func.__name__, func, bench))
        return func

    return add


def same(a, b, what=""):
    if a != b:
        raise AssertionError(f"{what}: got {a!r}, expected {b!r}")


def ls(path):
    return sorted(os.listdir(path))


def fdls(fd):
    os.lseek(fd, 0, os.SEEK_SET)
    return sorted(os.listdir(fd))


def as_nobody(func):
    """Result of func() as uid 65534, True or False."""
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            os._exit(0 if func() else 1)
        except BaseException:
            os._exit(1)
    return os.waitpid(pid, 0)[1] == 0


# names


@case()
def file_created_after_cached_enoent(b):
    b.mount()
    same(exists(b.m + "/f"), False)
    write(b.l + "/f", "1")
    b.changed("")
    same(read(b.m + "/f"), "1")


@case()
def deep_tree_created_after_cached_enoent(b):
    b.mount()
    same(exists(b.m + "/a"), False)
    os.makedirs(b.l + "/a/b/c/d")
    write(b.l + "/a/b/c/d/f", "1")
    b.changed("")
    same(read(b.m + "/a/b/c/d/f"), "1")


@case()
def file_replaced_by_rename(b):
    write(b.l + "/f", "old")
    b.mount()
    same(read(b.m + "/f"), "old")
    replace(b.l + "/f", "new content")
    b.changed("")
    same(read(b.m + "/f"), "new content")
    same(os.stat(b.m + "/f").st_size, 11)


@case()
def file_removed(b):
    write(b.l + "/f", "old")
    b.mount()
    same(exists(b.m + "/f"), True)
    os.unlink(b.l + "/f")
    b.changed("")
    same(exists(b.m + "/f"), False)
    same(ls(b.m), [])


@case()
def dir_removed(b):
    os.makedirs(b.l + "/d/e")
    b.mount()
    same(exists(b.m + "/d/e"), True)
    os.rmdir(b.l + "/d/e")
    os.rmdir(b.l + "/d")
    b.changed("d" if MODE != "manual" else "", "")
    same(exists(b.m + "/d"), False)


@case()
def dir_replaced_by_file_and_back(b):
    os.mkdir(b.l + "/x")
    b.mount()
    same(os.path.isdir(b.m + "/x"), True)
    os.rmdir(b.l + "/x")
    write(b.l + "/x", "f")
    b.changed("")
    same(read(b.m + "/x"), "f")
    os.unlink(b.l + "/x")
    os.mkdir(b.l + "/x")
    write(b.l + "/x/y", "g")
    b.changed("")
    same(read(b.m + "/x/y"), "g")


@case()
def symlink_replaced(b):
    os.symlink("a", b.l + "/s")
    b.mount()
    same(os.readlink(b.m + "/s"), "a")
    os.symlink("b", b.l + "/t")
    os.rename(b.l + "/t", b.l + "/s")
    b.changed("")
    same(os.readlink(b.m + "/s"), "b")


@case()
def dir_renamed(b):
    os.mkdir(b.l + "/a")
    write(b.l + "/a/f", "1")
    b.mount()
    same(read(b.m + "/a/f"), "1")
    same(exists(b.m + "/b"), False)
    os.rename(b.l + "/a", b.l + "/b")
    b.changed("")
    same(read(b.m + "/b/f"), "1")
    same(exists(b.m + "/a"), False)
    same(ls(b.m), ["b"])


@case()
def merged_dir_renamed_in_lower(b):
    os.mkdir(b.l + "/a")
    write(b.l + "/a/f", "1")
    b.mount()
    write(b.m + "/a/up", "u")
    same(ls(b.m + "/a"), ["f", "up"])
    os.rename(b.l + "/a", b.l + "/b")
    b.changed("")
    # The new name first: its lower is still that of the old name
    same(ls(b.m + "/b"), ["f"])
    same(ls(b.m + "/a"), ["up"])
    same(read(b.m + "/a/up"), "u")


@case()
def dir_removed_and_recreated(b):
    os.mkdir(b.l + "/d")
    write(b.l + "/d/old", "1")
    b.mount()
    same(ls(b.m + "/d"), ["old"])
    os.unlink(b.l + "/d/old")
    os.rmdir(b.l + "/d")
    os.mkdir(b.l + "/d")
    write(b.l + "/d/new", "2")
    b.changed("", "d")
    same(ls(b.m + "/d"), ["new"])
    same(read(b.m + "/d/new"), "2")


@case()
def two_names_exchanged(b):
    write(b.l + "/a", "A")
    os.mkdir(b.l + "/d")
    write(b.l + "/d/b", "B")
    b.mount()
    same(read(b.m + "/a") + read(b.m + "/d/b"), "AB")
    libc.renameat2(-100, os.fsencode(b.l + "/a"), -100, os.fsencode(b.l + "/d/b"), 2)
    b.changed("", "d")
    same(read(b.m + "/a") + read(b.m + "/d/b"), "BA")


@case()
def tree_moved_in_from_elsewhere_and_out_again(b):
    """Nothing below it has changed, nor was it ever a name of a lower."""
    os.makedirs(b.top + "/tree/d/e")
    write(b.top + "/tree/d/e/f", "1")
    b.mount()
    same(exists(b.m + "/tree"), False)
    os.rename(b.top + "/tree", b.l + "/tree")
    b.changed("")
    same(read(b.m + "/tree/d/e/f"), "1")
    os.rename(b.l + "/tree", b.top + "/tree")
    b.changed("")
    same((exists(b.m + "/tree"), exists(b.m + "/tree/d/e/f"), ls(b.m)), (False, False, []))


@case()
def git_checkout_in_lower(b):
    """Another branch: files that change, appear and go, a directory that becomes a file."""
    if not shutil.which("git"):
        raise Skip("no git here")
    env = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
    options = ["--git-dir", b.top + "/git", "--work-tree", b.l, "-c", "user.name=t", "-c", "user.email=t@localhost"]
    git = lambda *args: subprocess.run(["git", *options, *args], check=True, capture_output=True, cwd=b.l, env=env)
    git("init", "-q", "-b", "one")
    os.makedirs(b.l + "/src/old")
    for name in ("same", "src/changed", "src/gone", "src/old/f", "kind"):
        write(f"{b.l}/{name}", "one")
    git("add", ".")
    git("commit", "-q", "-m", "one")
    git("checkout", "-q", "-b", "two")
    git("rm", "-q", "-r", "src/gone", "src/old", "kind")
    os.mkdir(b.l + "/kind")
    for name in ("src/changed", "src/new", "kind/f"):
        write(f"{b.l}/{name}", "two, longer")
    git("add", ".")
    git("commit", "-q", "-m", "two")
    b.mount()
    write(b.m + "/src/mine", "up")
    for branch in ("one", "two", "one"):
        everything(b.m)
        git("checkout", "-q", branch)
        b.changed("", *(d for d in ("src", "src/old", "kind") if os.path.isdir(f"{b.l}/{d}")))
        same(everything(b.m), {**everything(b.l), "/src/mine": (stat.S_IFREG, 0o644, 0, 0, "up")}, branch)


@case()
def strange_names(b):
    os.mkdir(b.l + "/d")
    b.mount()
    names = [b"a\nb", b"\xff\xfe", b"'\"\\", b"n" * 255, b" "]
    root, low = os.fsencode(b.m) + b"/d/", os.fsencode(b.l) + b"/d/"
    for n in names:
        same(exists(root + n), False)
    for n in names:
        write(low + n, "x")
    b.changed("d")
    for n in names:
        same(exists(root + n), True, n)
    same(sorted(os.listdir(root)), sorted(names))


@case()
def burst_of_2000_replaced(b):
    for i in range(2000):
        write(f"{b.l}/{i}", "a")
    b.mount()
    for i in range(2000):
        os.stat(f"{b.m}/{i}")
    for i in range(2000):
        replace(f"{b.l}/{i}", f"n{i}")
    b.changed("")
    for i in range(2000):
        same(read(f"{b.m}/{i}"), f"n{i}")


@case()
def hard_link_and_unlink_of_other_name(b):
    write(b.l + "/a", "1")
    b.mount()
    same(read(b.m + "/a"), "1")
    same(exists(b.m + "/b"), False)
    os.link(b.l + "/a", b.l + "/b")
    os.unlink(b.l + "/a")
    b.changed("")
    same(read(b.m + "/b"), "1")
    same(exists(b.m + "/a"), False)


# behaviour 2, merging


@case()
def lower_of_merged_dir_removed_upper_files_stay(b):
    os.mkdir(b.l + "/d")
    write(b.l + "/d/low", "l")
    b.mount()
    write(b.m + "/d/up", "u")
    same(ls(b.m + "/d"), ["low", "up"])
    os.unlink(b.l + "/d/low")
    os.rmdir(b.l + "/d")
    b.changed("", "d")
    same(ls(b.m + "/d"), ["up"])
    same(read(b.m + "/d/up"), "u")
    same(exists(b.m + "/d/low"), False)
    write(b.m + "/d/more", "m")
    same(ls(b.m + "/d"), ["more", "up"])


@case()
def upper_dir_gains_a_lower(b):
    b.mount()
    os.mkdir(b.m + "/d")
    write(b.m + "/d/up", "u")
    same(ls(b.m + "/d"), ["up"])
    same(exists(b.m + "/d/low"), False)
    os.mkdir(b.l + "/d")
    write(b.l + "/d/low", "l")
    b.changed("")
    same(ls(b.m + "/d"), ["low", "up"])
    same(read(b.m + "/d/low"), "l")


@case()
def whiteouts_of_a_dir_that_was_merged_late_stay_hidden(b):
    b.mount()
    os.mkdir(b.m + "/d")
    os.mkdir(b.l + "/d")
    write(b.l + "/d/low", "l")
    b.changed("")
    os.unlink(b.m + "/d/low")
    same(ls(b.m + "/d"), [])
    os.unlink(b.l + "/d/low")
    os.rmdir(b.l + "/d")
    b.changed("", "d")
    same(ls(b.m + "/d"), [])
    mounted_again(b)
    same(ls(b.m + "/d"), [])


@case()
def whiteout_in_upper_hides_what_appears_below(b):
    write(b.l + "/f", "1")
    b.mount()
    os.unlink(b.m + "/f")
    os.unlink(b.l + "/f")
    write(b.l + "/f", "2")
    b.changed("")
    same(exists(b.m + "/f"), False)
    same(ls(b.m), [])


@case(lowers=3)
def top_lower_removed_reveals_bottom_and_back(b):
    for i, l in enumerate(b.lowers):
        os.mkdir(l + "/d")
        write(l + "/d/f", str(i))
        write(f"{l}/d/only{i}", "")
    b.mount()
    held = b.open(b.m + "/d")
    same(read(b.m + "/d/f"), "0")
    same(fdls(held), ["f", "only0", "only1", "only2"])
    os.unlink(b.l + "/d/f")
    b.changed("d")
    same(read(b.m + "/d/f"), "1")
    os.unlink(b.l + "/d/only0")
    os.rmdir(b.l + "/d")
    b.changed("", "d")
    same(read(b.m + "/d/f"), "1")
    same(ls(b.m + "/d"), ["f", "only1", "only2"])
    same(fdls(held), ["f", "only1", "only2"])
    os.mkdir(b.l + "/d")
    write(b.l + "/d/f", "again")
    b.changed("", "d")
    same(read(b.m + "/d/f"), "again")
    same(fdls(held), ["f", "only1", "only2"])


@case(lowers=3)
def whiteout_and_opaque_made_in_a_middle_lower(b):
    os.mkdir(b.lowers[2] + "/d")
    os.mkdir(b.lowers[1] + "/d")
    write(b.lowers[2] + "/d/f", "1")
    write(b.lowers[2] + "/g", "1")
    b.mount()
    same(read(b.m + "/d/f") + read(b.m + "/g"), "11")
    held = b.open(b.m + "/d")
    same(fdls(held), ["f"])
    whiteout(b.lowers[1] + "/g")
    b.changed("")
    same(exists(b.m + "/g"), False)
    os.setxattr(b.lowers[1] + "/d", "trusted.overlay.opaque", b"y")
    b.changed("")
    same(exists(b.m + "/d/f"), False)
    same(ls(b.m + "/d"), [])
    same(fdls(held), [])
    os.removexattr(b.lowers[1] + "/d", "trusted.overlay.opaque")
    b.changed("")
    same(read(b.m + "/d/f"), "1")
    same(fdls(held), ["f"])


@case(lowers=2, options="userxattr")
def opaque_and_whiteouts_with_user_xattrs(b):
    """As the superuser too, and those of trusted.* are not looked at then."""
    os.makedirs(b.lowers[1] + "/d")
    os.mkdir(b.l + "/d")
    write(b.lowers[1] + "/d/f", "1")
    if err_of(os.setxattr, b.l + "/d", "user.x", b"") == errno.EOPNOTSUPP:
        raise Skip("no user xattrs in tmpfs of this kernel")
    b.mount()
    same("userxattr" in options_of(b.m), True)
    held = b.open(b.m + "/d")
    same((read(b.m + "/d/f"), fdls(held)), ("1", ["f"]))
    os.setxattr(b.l + "/d", "trusted.overlay.opaque", b"y")
    b.changed("")
    same((read(b.m + "/d/f"), fdls(held)), ("1", ["f"]))
    os.removexattr(b.l + "/d", "trusted.overlay.opaque")
    os.setxattr(b.l + "/d", "user.overlay.opaque", b"y")
    b.changed("")
    same((exists(b.m + "/d/f"), ls(b.m + "/d"), fdls(held)), (False, [], []))
    os.removexattr(b.l + "/d", "user.overlay.opaque")
    b.changed("")
    same((read(b.m + "/d/f"), fdls(held)), ("1", ["f"]))
    whiteout(b.l + "/d/f")
    b.changed("d")
    same((exists(b.m + "/d/f"), fdls(held)), (False, []))
    # Copy up has its marks in user.* too
    write(b.l + "/d/g", "low")
    b.changed("d")
    append(b.m + "/d/g", "+up")
    same([x for x in os.listxattr(b.u + "/d") if x.startswith("trusted.overlay.")], [])
    os.unlink(b.l + "/d/g")
    b.changed("d")
    same(read(b.m + "/d/g"), "low+up")


@case(lowers=2, upper=False)
def read_only_overlay_without_upper(b):
    os.mkdir(b.lowers[0] + "/d")
    os.mkdir(b.lowers[1] + "/d")
    write(b.lowers[1] + "/d/f", "1")
    b.mount()
    held = b.open(b.m + "/d")
    same(fdls(held), ["f"])
    same(exists(b.m + "/d/g"), False)
    write(b.lowers[0] + "/d/g", "2")
    b.changed("d")
    same(read(b.m + "/d/g"), "2")
    same(fdls(held), ["f", "g"])
    same(ls(b.m + "/d"), ["f", "g"])


# holders


@case()
def listing_held_open(b):
    os.mkdir(b.l + "/d")
    write(b.l + "/d/a", "")
    b.mount()
    write(b.m + "/d/up", "")
    held = b.open(b.m + "/d")
    same(fdls(held), ["a", "up"])
    write(b.l + "/d/b", "")
    os.unlink(b.l + "/d/a")
    b.changed("d")
    same(ls(b.m + "/d"), ["b", "up"])
    same(fdls(held), ["b", "up"])


@case()
def listing_of_the_root_held_open(b):
    write(b.l + "/a", "")
    b.mount()
    held = b.open(b.m)
    same(fdls(held), ["a"])
    write(b.l + "/b", "")
    b.changed("")
    same(ls(b.m), ["a", "b"])
    same(fdls(held), ["a", "b"])


@case()
def open_file_keeps_its_content_others_see_the_new(b):
    write(b.l + "/f", "old")
    b.mount()
    fd = b.open(b.m + "/f")
    replace(b.l + "/f", "new")
    b.changed("")
    same(read(b.m + "/f"), "new")
    same(os.pread(fd, 10, 0), b"old")


@case()
def mapped_file_keeps_its_content_others_see_the_new(b):
    write(b.l + "/f", "old")
    b.mount()
    with open(b.m + "/f", "rb") as f, mmap.mmap(f.fileno(), 3, prot=mmap.PROT_READ) as page:
        replace(b.l + "/f", "new")
        b.changed("")
        same(read(b.m + "/f"), "new")
        same(page[:], b"old")


@case()
def openat_from_a_held_dir(b):
    os.mkdir(b.l + "/d")
    write(b.l + "/d/f", "old")
    b.mount()
    held = b.open(b.m + "/d")
    same(err_of(lambda: os.stat("g", dir_fd=held)), errno.ENOENT)
    os.stat("f", dir_fd=held)
    replace(b.l + "/d/f", "newer")
    write(b.l + "/d/g", "g")
    b.changed("d")
    same(os.stat("f", dir_fd=held).st_size, 5)
    same(os.stat("g", dir_fd=held).st_size, 1)


@case()
def cwd_in_merged_dir_whose_lower_is_recreated(b):
    os.mkdir(b.l + "/d")
    write(b.l + "/d/old", "1")
    b.mount()
    write(b.m + "/d/up", "u")
    os.chdir(b.m + "/d")
    same(sorted(os.listdir(".")), ["old", "up"])
    same(exists("new"), False)
    os.unlink(b.l + "/d/old")
    os.rmdir(b.l + "/d")
    b.changed("", "d")
    same(exists("old"), False)
    same(sorted(os.listdir(".")), ["up"])
    os.mkdir(b.l + "/d")
    write(b.l + "/d/new", "2")
    b.changed("")
    same(read("new"), "2")
    same(sorted(os.listdir(".")), ["new", "up"])


@case()
def cwd_in_upper_dir_that_gains_a_lower(b):
    b.mount()
    os.makedirs(b.m + "/a/b/c")
    os.chdir(b.m + "/a/b/c")
    same(exists("f"), False)
    os.makedirs(b.l + "/a/b/c")
    write(b.l + "/a/b/c/f", "1")
    b.changed("")
    same(read("f"), "1")
    same(os.listdir("."), ["f"])


@case()
def cwd_below_a_dir_whose_lower_is_exchanged(b):
    for n in "ab":
        os.makedirs(f"{b.l}/{n}/x/y")
        write(f"{b.l}/{n}/x/y/f", n)
    b.mount()
    write(b.m + "/a/x/y/up", "")
    os.chdir(b.m + "/a/x/y")
    same(read("f"), "a")
    libc.renameat2(-100, os.fsencode(b.l + "/a"), -100, os.fsencode(b.l + "/b"), 2)
    b.changed("")
    same(read("f"), "b")
    same(sorted(os.listdir(".")), ["f", "up"])


@case()
def path_of_a_removed_dir_when_its_holder_looks_first(b):
    os.makedirs(b.l + "/d/e")
    write(b.l + "/d/e/f", "1")
    b.mount()
    held = [b.open(b.m + "/d"), b.open(b.m + "/d/e")]
    os.stat(b.m + "/d/e/f")
    os.unlink(b.l + "/d/e/f")
    os.rmdir(b.l + "/d/e")
    os.rmdir(b.l + "/d")
    b.changed("")
    for fd in held:
        err_of(lambda: os.stat("f", dir_fd=fd))
    for path in "/d/e/f", "/d/e", "/d":
        same(exists(b.m + path), False)
    same(os.listdir(b.m), [])


@case()
def paths_of_a_renamed_dir_when_its_holder_looks_first(b):
    os.makedirs(b.l + "/d/e")
    write(b.l + "/d/e/f", "1")
    b.mount()
    held = b.open(b.m + "/d/e")
    for old, now in ("d", "away"), ("away", "d"), ("d", "else"):
        os.stat(f"{b.m}/{old}/e/f")
        same(exists(f"{b.m}/{now}"), False)
        os.rename(f"{b.l}/{old}", f"{b.l}/{now}")
        b.changed("")
        err_of(lambda: os.stat("f", dir_fd=held))
        same([exists(f"{b.m}/{old}{path}") for path in ("", "/e", "/e/f")], [False] * 3)
        same(read(f"{b.m}/{now}/e/f"), "1")
        err_of(lambda: os.stat("g", dir_fd=held))
        same([exists(f"{b.m}/{old}{path}") for path in ("", "/e", "/e/f")], [False] * 3)


@case()
def mount_inside_survives(b):
    os.makedirs(b.l + "/d/mnt")
    b.mount()
    write(b.m + "/d/mnt/up", "")
    mount("inner", b.m + "/d/mnt", "tmpfs")
    b.mounts.append(b.m + "/d/mnt")
    write(b.m + "/d/mnt/inner", "1")
    os.rmdir(b.l + "/d/mnt")
    os.rmdir(b.l + "/d")
    b.changed("", "d")
    same(read(b.m + "/d/mnt/inner"), "1")
    os.makedirs(b.l + "/d/mnt")
    write(b.l + "/d/low", "2")
    b.changed("", "d")
    same(read(b.m + "/d/low"), "2")
    same(read(b.m + "/d/mnt/inner"), "1")


@case()
def bind_mount_of_a_subdirectory(b):
    os.makedirs(b.l + "/d/e")
    b.mount()
    write(b.m + "/d/e/up", "")
    os.mkdir(b.top + "/bind")
    mount(b.m + "/d/e", b.top + "/bind", None, MS_BIND)
    b.mounts.append(b.top + "/bind")
    same(ls(b.top + "/bind"), ["up"])
    same(exists(b.top + "/bind/f"), False)
    os.rmdir(b.l + "/d/e")
    os.rename(b.l + "/d", b.l + "/gone")
    os.makedirs(b.l + "/d/e")
    write(b.l + "/d/e/f", "1")
    b.changed("")
    same(read(b.top + "/bind/f"), "1")
    same(ls(b.top + "/bind"), ["f", "up"])


# attributes


@case()
def chmod_and_chown_seen_by_others(b):
    write(b.l + "/f", "1")
    os.mkdir(b.l + "/d")
    write(b.l + "/d/g", "1")
    for p in (b.top, b.l):
        os.chmod(p, 0o755)
    os.chmod(b.l + "/f", 0o600)
    os.chmod(b.l + "/d", 0o700)
    b.mount()
    can = lambda p: as_nobody(lambda: read(p) == "1")
    same(can(b.m + "/f"), False)
    same(can(b.m + "/d/g"), False)
    os.chmod(b.l + "/f", 0o644)
    os.chmod(b.l + "/d", 0o755)
    b.changed("")
    same(can(b.m + "/f"), True)
    same(can(b.m + "/d/g"), True)
    os.chmod(b.l + "/f", 0o600)
    b.changed("")
    same(can(b.m + "/f"), False)
    os.chown(b.l + "/f", 65534, 65534)
    b.changed("")
    same(can(b.m + "/f"), True)
    same(os.stat(b.m + "/f").st_uid, 65534)


@case()
def chown_of_a_held_dir_lets_its_new_owner_in(b):
    os.mkdir(b.l + "/d", 0o700)
    write(b.l + "/d/f")
    b.mount()
    os.chdir(b.m + "/d")
    enter = lambda: exists("f")
    same(as_nobody(enter), False)
    os.chown(b.l + "/d", 65534, 65534)
    b.changed("")
    same(as_nobody(enter), True)
    os.chown(b.l + "/d", 0, 0)
    b.changed("")
    same(as_nobody(enter), False)


@case()
def chmod_of_a_held_dir(b):
    os.mkdir(b.l + "/d")
    write(b.l + "/d/f", "1")
    os.chmod(b.top, 0o755)
    b.mount()
    held = b.open(b.m + "/d", os.O_PATH)
    see = lambda: as_nobody(lambda: os.stat("f", dir_fd=held))
    os.chmod(b.l + "/d", 0o700)
    b.changed("")
    same(see(), False)
    os.chmod(b.l + "/d", 0o755)
    b.changed("")
    same(see(), True)


# copy up


@case()
def old_file_is_not_copied_up_over_the_new(b):
    write(b.l + "/f", "old")
    b.mount()
    fd = b.open(b.m + "/f")
    replace(b.l + "/f", "new")
    b.changed("")
    same(err_of(os.fchmod, fd, 0o600), errno.ESTALE, "fchmod")
    same(exists(b.u + "/f"), False)
    same(read(b.m + "/f"), "new")


@case()
def file_replaced_while_it_is_copied_up(b):
    """Either the copy up wins or the new file does, for the names that are cached as for a new mount."""
    if MODE == "stock":
        raise Skip("is for patched kernels")
    write(b.l + "/f", b"old" * (32 << 20))
    write(b.l + "/new", "new")
    b.mount()
    same(os.stat(b.m + "/f").st_size, 96 << 20)
    begins, says = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(says, b"1")
        os._exit(1 if err_of(os.chmod, b.m + "/f", 0o600) else 0)
    os.read(begins, 1)
    for fd in (begins, says):
        os.close(fd)
    time.sleep(0.03)
    os.rename(b.l + "/new", b.l + "/f")
    b.changed("")
    exists(b.m + "/f")
    copied = os.waitpid(pid, 0)[1] == 0
    same(exists(b.u + "/f"), copied)
    same(os.stat(b.m + "/f").st_size, 96 << 20 if copied else 3, "copied up" if copied else "not copied up")
    same(stat.S_IMODE(os.stat(b.m + "/f").st_mode), 0o600 if copied else 0o644)


def eventually(check, what, seconds=10):
    for _ in range(100 * seconds):
        if check():
            return
        time.sleep(0.01)
    raise AssertionError(f"not so after {seconds} s: {what}")


def must_end(pid, what):
    """Ends a child that waits in the kernel: there may be no other way to know that it can be."""
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: ended(pid), what, 5)


def begin(func, *args):
    """Has a child do it and gives its pid."""
    pid = os.fork()
    if pid == 0:
        try:
            func(*args)
        finally:
            os._exit(0)
    return pid


def ended(pid):
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        # Was found to have ended before
        return True


def wait_until_stuck(pid):
    """A process that does not get stuck must not hold up the test for ever: it is why the row fails."""
    for _ in range(2000):
        state = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[0]
        if state == "D":
            return
        if state == "Z":
            break
        time.sleep(0.01)
    raise AssertionError(f"does not wait: state {state}")


@case()
def dir_renamed_in_lower_while_it_is_copied_up(b):
    """Copy up waits for a frozen upper, and lookup of the new name for that."""
    if MODE == "stock":
        raise Skip("is for patched kernels")
    if not shutil.which("mkfs.ext4") or not shutil.which("fsfreeze") or not os.path.exists("/dev/loop2"):
        raise Skip("no mkfs.ext4, fsfreeze or /dev/loop2")
    if KERNEL < (6, 7):
        raise Skip("copy up waits for a frozen upper before it takes the lock, in this kernel")
    img, up = b.top + "/img", b.top + "/e"
    with open(img, "wb") as f:
        f.truncate(32 << 20)
    subprocess.run(["mkfs.ext4", "-q", img], check=True)
    subprocess.run(["losetup", "/dev/loop2", img], check=True)

    pids = []

    def start(func):
        pid = os.fork()
        if pid == 0:
            os._exit(err_of(func))
        pids.append(pid)
        wait_until_stuck(pid)

    try:
        os.mkdir(up)
        mount("/dev/loop2", up, "ext4")
        b.mounts.append(up)
        b.u, b.w = up + "/u", up + "/w"
        os.mkdir(b.u)
        os.mkdir(b.w)
        for d in ("p/old", "q"):
            os.makedirs(f"{b.l}/{d}")
        write(b.l + "/p/old/f", "1")
        b.mount()
        write(b.m + "/p/up")
        same(ls(b.m + "/p/old"), ["f"])
        same(exists(b.m + "/q/new"), False)
        subprocess.run(["fsfreeze", "-f", up], check=True)
        try:
            start(lambda: os.chmod(b.m + "/p/old", 0o700))
            os.rename(b.l + "/p/old", b.l + "/q/new")
            b.changed("q", "p")
            start(lambda: os.stat(b.m + "/q/new"))
        finally:
            subprocess.run(["fsfreeze", "-u", up], check=True)
            ends = [os.waitpid(pid, 0)[1] for pid in pids]
        same(ends, [0, 0])
        same(exists(b.u + "/p/old"), True)
        same(ls(b.m + "/q/new"), ["f"])
        same(stat.S_IMODE(os.stat(b.m + "/q/new").st_mode), 0o755)
        same(stat.S_IMODE(os.stat(b.m + "/p/old").st_mode), 0o700)
        same(ls(b.m + "/p/old"), [])
        write(b.m + "/q/new/mine", "1")
        same((ls(b.u + "/q/new"), ls(b.u + "/p/old")), (["mine"], []))
    finally:
        for m in (b.m, up):
            if m in b.mounts:
                umount(m)
                b.mounts.remove(m)
        subprocess.run(["losetup", "-d", "/dev/loop2"])


@case()
def copied_up_file_renamed_in_lower(b):
    write(b.l + "/f", "low")
    b.mount()
    with open(b.m + "/f", "a") as f:
        f.write("+up")
    same(read(b.m + "/f"), "low+up")
    os.rename(b.l + "/f", b.l + "/g")
    b.changed("")
    same(read(b.m + "/g"), "low")
    same(read(b.m + "/f"), "low+up")


def number(path):
    st = os.lstat(path)
    return st.st_dev, st.st_ino


def append(path, text):
    with open(path, "a") as f:
        f.write(text)


def unmounted(b):
    umount(b.m)
    b.mounts.remove(b.m)


def mounted_again(b):
    unmounted(b)
    b.mount()


@case()
def copied_up_file_and_its_renamed_lower_are_two_files(b):
    """diff, cp and mv ask for the number of the one first, and take the other for it if that is the same."""
    write(b.l + "/f", "low")
    b.mount()
    origin = number(b.m + "/f")
    append(b.m + "/f", "+up")
    same(number(b.m + "/f"), origin, "copied up")
    os.rename(b.l + "/f", b.l + "/g")
    b.changed("")
    up = number(b.m + "/f")
    same(number(b.m + "/g"), origin, "lower")
    same(up == origin, False, "both have the number")
    same(read(b.m + "/g"), "low")
    same(read(b.m + "/f"), "low+up")
    same(number(b.m + "/f"), up)
    numbers = {e.name: e.inode() for e in os.scandir(b.m)}
    same(numbers, {"f": up[1], "g": origin[1]}, "listed")


@case()
def copied_up_file_is_looked_up_before_its_renamed_lower(b):
    write(b.l + "/f", "low")
    b.mount()
    append(b.m + "/f", "+up")
    os.rename(b.l + "/f", b.l + "/g")
    b.changed("")
    mounted_again(b)
    same(read(b.m + "/f"), "low+up")
    same(number(b.m + "/g")[1], os.stat(b.l + "/g").st_ino, "lower")
    same(number(b.m + "/f") == number(b.m + "/g"), False, "both have the number")
    mounted_again(b)
    lower = number(b.m + "/g")
    same(number(b.m + "/f") == lower, False, "both have the number, the other way")
    append(b.m + "/g", "+up")
    same(number(b.m + "/g"), lower, "copied up too")
    same(number(b.m + "/f") == lower, False, "both copied up")
    mounted_again(b)
    same(number(b.m + "/f") == number(b.m + "/g"), False, "both copied up, mounted again")


@case()
def copies_of_a_copied_up_file_are_files_of_their_own(b):
    write(b.l + "/f", "low")
    b.mount()
    origin = number(b.m + "/f")
    append(b.m + "/f", "+up")
    unmounted(b)
    for name in "gh":
        shutil.copy2(b.u + "/f", f"{b.u}/{name}")
        append(f"{b.u}/{name}", name)
    b.mount()
    first = {name: number(f"{b.m}/{name}") for name in "fgh"}
    same({name: read(f"{b.m}/{name}") for name in "fgh"}, {"f": "low+up", "g": "low+upg", "h": "low+uph"})
    same(len(set(first.values())), 3, "numbers")
    same({name: number(f"{b.m}/{name}") for name in "hgf"}, first)
    # Who has it lets it go when it goes
    os.unlink(b.m + "/f")
    os.unlink(b.m + "/g")
    mounted_again(b)
    same(number(b.m + "/h"), origin)
    same(read(b.m + "/h"), "low+uph")


@case(options="redirect_dir=on")
def directories_redirected_to_the_same_are_two(b):
    os.mkdir(b.l + "/d")
    write(b.l + "/d/f", "low")
    write(b.l + "/d/low", "")
    b.mount()
    append(b.m + "/d/f", "+up")
    os.rename(b.m + "/d", b.m + "/one")
    unmounted(b)
    shutil.copytree(b.u + "/one", b.u + "/two")
    append(b.u + "/two/f", "+two")
    write(b.u + "/two/two", "")
    b.mount()
    for names in (["one", "two"], ["two", "one"]):
        one, two = (number(f"{b.m}/{name}") for name in names)
        same(one == two, False, "directories")
        one, two = (number(f"{b.m}/{name}/f") for name in names)
        same(one == two, False, "files")
        same(read(b.m + "/one/f"), "low+up")
        same(read(b.m + "/two/f"), "low+up+two")
        same(ls(b.m + "/one"), ["f", "low"])
        same(ls(b.m + "/two"), ["f", "low", "two"])
        mounted_again(b)


@case(lowers=2, options="redirect_dir=on")
def directories_redirected_to_the_same_stay_two_when_that_changes(b):
    os.mkdir(b.lowers[1] + "/d")
    b.mount()
    os.rename(b.m + "/d", b.m + "/one")
    unmounted(b)
    shutil.copytree(b.u + "/one", b.u + "/two")
    b.mount()
    names = [b.m + "/one", b.m + "/two"]
    same(len(set(map(number, names))), 2, "first")
    os.mkdir(b.l + "/d")
    write(b.l + "/d/new", "")
    b.changed("")
    same([ls(name) for name in names], [["new"], ["new"]])
    same(len(set(map(number, names))), 2, "merged with another")


@case()
def copied_up_file_and_a_link_to_its_lower_are_two_files(b):
    write(b.l + "/f", "low")
    b.mount()
    append(b.m + "/f", "+up")
    os.rename(b.m + "/f", b.m + "/g")
    os.link(b.l + "/f", b.l + "/h")
    b.changed("")
    same(read(b.m + "/h"), "low")
    os.unlink(b.l + "/f")
    b.changed("")
    same(number(b.m + "/g") == number(b.m + "/h"), False, "both have the number")
    same(read(b.m + "/g"), "low+up")
    same(read(b.m + "/h"), "low")


@case()
def copied_up_file_keeps_its_number_when_it_is_renamed_in_the_overlay(b):
    os.mkdir(b.l + "/d")
    write(b.l + "/d/f", "low")
    b.mount()
    origin = number(b.m + "/d/f")
    append(b.m + "/d/f", "+up")
    same(number(b.m + "/d/f"), origin, "copied up")
    os.rename(b.m + "/d/f", b.m + "/d/g")
    same(number(b.m + "/d/g"), origin, "renamed")
    write(b.l + "/d/other", "")
    b.changed("d")
    same(number(b.m + "/d/g"), origin, "after a change")
    os.rename(b.m + "/d/g", b.m + "/h")
    same(number(b.m + "/h"), origin, "moved")
    same({e.name: e.inode() for e in os.scandir(b.m)}["h"], origin[1], "listed")
    mounted_again(b)
    same(number(b.m + "/h")[1], origin[1], "mounted again")
    write(b.l + "/new", "")
    b.changed("")
    same(number(b.m + "/h")[1], origin[1], "after another change")
    os.link(b.m + "/h", b.m + "/i")
    same(number(b.m + "/i")[1], origin[1], "link")


@case()
def lower_file_of_copied_up_file_found_first(b):
    write(b.l + "/f", "low")
    b.mount()
    with open(b.m + "/f", "a") as f:
        f.write("+up")
    os.rename(b.l + "/f", b.l + "/g")
    b.changed("")
    mounted_again(b)
    same(read(b.m + "/g"), "low")
    same(read(b.m + "/f"), "low+up")


@case(options="metacopy=on,redirect_dir=on")
def metacopy_file_whose_lower_data_is_replaced(b):
    write(b.l + "/f", "old")
    b.mount()
    os.chmod(b.m + "/f", 0o600)
    same(read(b.m + "/f"), "old")
    replace(b.l + "/f", "new")
    b.changed("")
    same(read(b.m + "/f"), "new")


@case(options="metacopy=on,redirect_dir=on")
def listing_after_an_error_that_came_from_elsewhere(b):
    os.mkdir(b.l + "/d")
    write(b.l + "/f", "low")
    b.mount()
    os.chmod(b.m + "/f", 0o600)
    os.rename(b.m + "/f", b.m + "/d/f")
    os.rename(b.l + "/f", b.l + "/g")
    b.changed("")
    same(err_of(os.stat, b.m + "/d/f"), errno.EIO)
    # The listing is in the cache as long as somebody has it
    held = b.open(b.m + "/d")
    for _ in range(2):
        same(fdls(held), ["f"])
    same(ls(b.m + "/d"), ["f"])
    os.rename(b.l + "/g", b.l + "/f")
    b.changed("")
    same(read(b.m + "/d/f"), "low")
    same(ls(b.m + "/d"), ["f"])


@case(lowers=2, options="metacopy=on,redirect_dir=on")
def listing_with_xwhiteouts_after_an_error_that_came_from_elsewhere(b):
    """Entries of a directory with xwhiteouts are looked up for each listing."""
    if KERNEL < (6, 7):
        raise Skip("no xwhiteouts in overlayfs of this kernel")
    upper, lower = b.lowers
    os.mkdir(upper + "/d")
    os.mkdir(lower + "/d")
    write(upper + "/d/f", "...")
    os.setxattr(upper + "/d/f", "trusted.overlay.metacopy", b"")
    write(upper + "/d/gone")
    os.setxattr(upper + "/d/gone", "trusted.overlay.whiteout", b"y")
    for d in ("", "/d"):
        os.setxattr(upper + d, "trusted.overlay.opaque", b"x")
    write(lower + "/d/gone", "low")
    write(lower + "/d/other", "low")
    b.mount()
    same(err_of(os.stat, b.m + "/d/f"), errno.EIO)
    held = b.open(b.m + "/d")
    for _ in range(2):
        same(fdls(held), ["f", "other"])
    same(ls(b.m + "/d"), ["f", "other"])
    write(lower + "/d/f", "low")
    b.changed("d")
    same(read(b.m + "/d/f"), "low")
    same(fdls(held), ["f", "other"])
    same(ls(b.m + "/d"), ["f", "other"])


@case(options="metacopy=on,redirect_dir=on")
def data_only_layer(b):
    """What refers to one is followed, also to names that it got since. Changes of names in it are not."""
    if KERNEL < (6, 5):
        raise Skip("no data-only layers in overlayfs of this kernel")
    data = b.top + "/data"
    os.mkdir(data)

    def refer(name, blob, size):
        write(f"{b.l}/{name}.new")
        os.truncate(f"{b.l}/{name}.new", size)
        os.setxattr(f"{b.l}/{name}.new", "trusted.overlay.metacopy", b"")
        os.setxattr(f"{b.l}/{name}.new", "trusted.overlay.redirect", blob.encode())
        os.rename(f"{b.l}/{name}.new", f"{b.l}/{name}")

    write(data + "/one", "first")
    refer("f", "/one", 5)
    b.lowers = [b.l + "::" + data]
    b.mount()
    same((read(b.m + "/f"), exists(b.m + "/g"), exists(b.m + "/one")), ("first", False, False))
    write(data + "/two", "second")
    refer("f", "/two", 6)
    refer("g", "/one", 5)
    b.changed("")
    same((read(b.m + "/f"), read(b.m + "/g"), exists(b.m + "/two")), ("second", "first", False))
    replace(b.l + "/f", "plain")
    b.changed("")
    same(read(b.m + "/f"), "plain")
    refer("f", "/two", 6)
    b.changed("")
    append(b.m + "/f", "+up")
    replace(data + "/one", "other")
    b.changed("")
    same((read(b.m + "/f"), read(b.m + "/g")), ("second+up", "first"))


@case(options="volatile")
def upper_without_sync(b):
    write(b.l + "/f", "old")
    b.mount()
    # "fsync=volatile" in later kernels
    same([o for o in options_of(b.m) if o.endswith("volatile")] != [], True)
    same((read(b.m + "/f"), exists(b.m + "/g")), ("old", False))
    with open(b.m + "/up", "w") as f:
        f.write("up")
        f.flush()
        os.fsync(f.fileno())
    replace(b.l + "/f", "new")
    write(b.l + "/g", "g")
    b.changed("")
    same((read(b.m + "/f"), read(b.m + "/g"), ls(b.m)), ("new", "g", ["f", "g", "up"]))
    # Not to be mounted again as it is, which a mode does not change
    unmounted(b)
    same(err_of(b.mount), errno.EINVAL)


@case(options="xino=on")
def numbers_with_xino(b):
    """Of one device, with the layer in their upper bits: also those of what changed, and in listings that are held."""
    other = b.top + "/other"
    os.mkdir(other)
    mount("other", other, "tmpfs")
    b.mounts.append(other)
    b.lowers = [b.l, other]
    for low in b.lowers:
        os.mkdir(low + "/d")
    write(b.l + "/d/f", "1")
    write(other + "/d/g", "1")
    b.mount()
    held = b.open(b.m + "/d")

    def right():
        top = b.top + "/fresh"
        os.makedirs(top, exist_ok=True)
        os.makedirs(b.top + "/empty", exist_ok=True)
        data = b.data(mode="stock").replace(f"upperdir={b.u}", f"upperdir={b.top}/empty").replace(b.w, b.top + "/work")
        os.makedirs(b.top + "/work", exist_ok=True)
        mount("overlay", top, "overlay", 0, data)
        try:
            device = os.stat(b.m).st_dev
            os.lseek(held, 0, os.SEEK_SET)
            now, anew = numbers(held), numbers(top + "/d")
            same(now, anew, "listed")
            same({n: number(f"{b.m}/d/{n}") for n in now}, {n: (device, i) for n, i in anew.items()}, "as stat says")
            return now
        finally:
            umount(top, 0)

    first = right()
    same(first["f"] >> 32 != first["g"] >> 32, True, "the layer is in the number")
    replace(b.l + "/d/f", "2")
    replace(other + "/d/g", "2")
    write(other + "/d/h")
    b.changed("d")
    now = right()
    same((sorted(now), now["f"] == first["f"], now["g"] == first["g"]), (["f", "g", "h"], False, False))
    # Another layer has it now
    os.unlink(b.l + "/d/f")
    write(other + "/d/f", "3")
    b.changed("d")
    same(right()["f"] >> 32, now["g"] >> 32)
    append(b.m + "/d/f", "+up")
    right()


@case(options="redirect_dir=on")
def redirected_dir_follows_its_lower(b):
    os.mkdir(b.l + "/a")
    write(b.l + "/a/f", "1")
    b.mount()
    os.rename(b.m + "/a", b.m + "/z")
    same(ls(b.m + "/z"), ["f"])
    write(b.l + "/a/g", "2")
    b.changed("z")
    same(ls(b.m + "/z"), ["f", "g"])
    os.unlink(b.l + "/a/f")
    os.unlink(b.l + "/a/g")
    os.rmdir(b.l + "/a")
    b.changed("", "z")
    same(ls(b.m + "/z"), [])
    os.mkdir(b.l + "/a")
    write(b.l + "/a/h", "3")
    b.changed("")
    same(ls(b.m + "/z"), ["h"])
    same(exists(b.m + "/a"), False)


# lower names of a file that was copied up under another name

INDEXED = "index=on"
INDEXED_META = "index=on,metacopy=on,redirect_dir=on"


def indexed(b, options):
    """a and b are one file in the lower, that was copied up as a: the upper one has to be shown as b too."""
    b.extra = options
    write(b.l + "/a", "low")
    os.link(b.l + "/a", b.l + "/b")
    b.mount()
    same(exists(b.m + "/c"), False)
    os.stat(b.m + "/b")
    if "metacopy" in options:
        os.chmod(b.m + "/a", 0o640)
        same(stat.S_IMODE(os.stat(b.m + "/b").st_mode), 0o640)
        return "low"
    with open(b.m + "/a", "a") as f:
        f.write("+up")
    same(read(b.m + "/b"), "low+up")
    return "low+up"


def still_a(b, text):
    same(read(b.m + "/a"), text)
    same(exists(b.u + "/a"), True)
    if "metacopy" in b.extra:
        same(stat.S_IMODE(os.stat(b.m + "/a").st_mode), 0o640)


def lower_name_removed(b, options):
    text = indexed(b, options)
    os.unlink(b.l + "/b")
    b.changed("")
    same(exists(b.m + "/b"), False)
    same(ls(b.m), ["a"])
    same(err_of(os.unlink, b.m + "/b"), errno.ENOENT)
    same(ls(b.u), ["a"])
    still_a(b, text)
    write(b.m + "/b", "mine")
    same(read(b.m + "/b"), "mine")
    still_a(b, text)


def lower_name_replaced(b, options):
    text = indexed(b, options)
    replace(b.l + "/b", "new")
    b.changed("")
    same(read(b.m + "/b"), "new")
    still_a(b, text)
    with open(b.m + "/b", "a") as f:
        f.write("er")
    same(read(b.m + "/b"), "newer")
    still_a(b, text)


def lower_name_replaced_by_a_dir(b, options):
    text = indexed(b, options)
    os.unlink(b.l + "/b")
    os.mkdir(b.l + "/b")
    write(b.l + "/b/f", "1")
    b.changed("")
    same(read(b.m + "/b/f"), "1")
    same(exists(b.u + "/b"), False)
    still_a(b, text)


def lower_name_renamed(b, options):
    text = indexed(b, options)
    os.rename(b.l + "/b", b.l + "/c")
    b.changed("")
    same(exists(b.m + "/b"), False)
    same(read(b.m + "/c"), text)
    same(os.path.samefile(b.m + "/c", b.m + "/a"), True)
    same(ls(b.m), ["a", "c"])
    with open(b.m + "/c", "a") as f:
        f.write("+c")
    still_a(b, text + "+c")
    same(ls(b.u), ["a", "c"])


def lower_name_held_open(b, options):
    text = indexed(b, options)
    fd, other = b.open(b.m + "/b"), b.open(b.m + "/a")
    os.unlink(b.l + "/b")
    b.changed("")
    same(exists(b.m + "/b"), False)
    same(os.pread(fd, 10, 0).decode(), text)
    same(err_of(os.fchmod, fd, 0o600), errno.ESTALE, "fchmod of what is gone")
    same(ls(b.u), ["a"])
    write(b.l + "/b", "new")
    b.changed("")
    same(err_of(os.fchmod, fd, 0o600), errno.ESTALE, "fchmod of what was replaced")
    same(read(b.m + "/b"), "new")
    same(ls(b.u), ["a"])
    os.fchmod(other, 0o640)
    same(os.pread(other, 10, 0).decode(), text)
    still_a(b, text)


def lower_name_held_open_when_replaced(b, options):
    text = indexed(b, options)
    fd = b.open(b.m + "/b")
    replace(b.l + "/b", "new")
    b.changed("")
    same(err_of(os.fchmod, fd, 0o600), errno.ESTALE, "fchmod")
    same(exists(b.u + "/b"), False)
    same(read(b.m + "/b"), "new")
    same(os.pread(fd, 10, 0).decode(), text)
    still_a(b, text)


def upper_name_of_it_does_not_depend_on_the_lower(b, options):
    text = indexed(b, options)
    held = b.open(b.m + "/b")
    os.unlink(b.l + "/a")
    b.changed("")
    # What metacopy has no data of is what a new mount says
    if "metacopy" not in options:
        still_a(b, text)
        replace(b.l + "/a", "new")
        b.changed("")
        still_a(b, text)
    same(read(b.m + "/b"), text)
    same(os.pread(held, 10, 0).decode(), text)


def another_lower_name_appears(b, options):
    text = indexed(b, options)
    os.link(b.l + "/a", b.l + "/c")
    b.changed("")
    same(read(b.m + "/c"), text)
    same(ls(b.m), ["a", "b", "c"])
    os.unlink(b.m + "/c")
    same(ls(b.m), ["a", "b"])
    same(read(b.m + "/b"), text)
    still_a(b, text)


LOWER_NAMES = [lower_name_removed, lower_name_replaced, lower_name_replaced_by_a_dir, lower_name_renamed,
               lower_name_held_open, lower_name_held_open_when_replaced, another_lower_name_appears,
               upper_name_of_it_does_not_depend_on_the_lower]


def lower_names_rows():
    """A row for each of these, with all data in the upper and without."""
    for func in LOWER_NAMES:
        for prefix, options in (("indexed_", INDEXED), ("indexed_metacopy_", INDEXED_META)):
            def row(b, func=func, options=options):
                func(b, options)

            row.__name__ = prefix + func.__name__
            case()(row)


lower_names_rows()


@case()
def old_name_of_a_file_that_was_copied_up_by_its_new_one(b):
    write(b.l + "/f", "low")
    b.mount()
    same(read(b.m + "/f"), "low")
    same(exists(b.m + "/g"), False)
    os.rename(b.l + "/f", b.l + "/g")
    b.changed("")
    with open(b.m + "/g", "a") as f:
        f.write("+up")
    same(exists(b.m + "/f"), False)
    same(ls(b.m), ["g"])
    same(read(b.m + "/g"), "low+up")


@case()
def old_name_that_is_linked_again_to_a_file_that_was_copied_up_by_its_new_one(b):
    """Copied up when it had one name, it has no index: the old name is a file of its own, as for a new mount."""
    write(b.l + "/f", "low")
    b.mount()
    same(read(b.m + "/f"), "low")
    os.rename(b.l + "/f", b.l + "/g")
    b.changed("")
    with open(b.m + "/g", "a") as f:
        f.write("+up")
    os.link(b.l + "/g", b.l + "/f")
    b.changed("")
    same(read(b.m + "/f"), "low")
    with open(b.m + "/f", "a") as f:
        f.write("+other")
    same(read(b.m + "/f"), "low+other")
    same(read(b.m + "/g"), "low+up")


@case(options="index=on")
def copied_up_file_that_gets_a_second_name_in_lower(b):
    """It has no index, so the second name is a file of its own, as for a new mount."""
    write(b.l + "/f", "low")
    b.mount()
    same(exists(b.m + "/g"), False)
    with open(b.m + "/f", "a") as f:
        f.write("+up")
    os.link(b.l + "/f", b.l + "/g")
    b.changed("")
    same(read(b.m + "/g"), "low")
    same(read(b.m + "/f"), "low+up")


@case(options="index=on")
def file_that_gets_a_second_name_in_lower_before_it_is_copied_up(b):
    """Both names are one file then, so what was written through one is what the other has when that is removed."""
    write(b.l + "/f", "low")
    b.mount()
    same(read(b.m + "/f"), "low")
    os.link(b.l + "/f", b.l + "/g")
    b.changed("")
    append(b.m + "/f", "+up")
    os.unlink(b.m + "/f")
    same(read(b.m + "/g"), "low+up")
    mounted_again(b)
    same(read(b.m + "/g"), "low+up")


@case()
def copied_up_file_whose_lower_has_one_name_left(b):
    text = indexed(b, INDEXED)
    os.unlink(b.m + "/a")
    replace(b.l + "/a", "new")
    os.rename(b.l + "/a", b.l + "/c")
    b.changed("")
    same(read(b.m + "/c"), "new")
    same(read(b.m + "/b"), text)
    mounted_again(b)
    same(read(b.m + "/b"), text)


@case()
def copied_up_file_that_gets_a_third_name_in_lower(b):
    """The index does not count that one, and stays with it when the others are removed."""
    text = indexed(b, INDEXED)
    os.link(b.l + "/a", b.l + "/c")
    b.changed("")
    same(read(b.m + "/c"), text)
    os.unlink(b.m + "/a")
    os.unlink(b.m + "/b")
    same(read(b.m + "/c"), text)
    mounted_again(b)
    same(read(b.m + "/c"), text)


@case()
def index_goes_with_the_last_name_though_others_removed_one(b):
    text = indexed(b, INDEXED)
    os.unlink(b.l + "/a")
    b.changed("")
    os.unlink(b.m + "/b")
    mounted_again(b)
    still_a(b, text)
    os.unlink(b.m + "/a")
    same([name for name in os.listdir(b.w + "/index") if not name.startswith("#")], [])


@case(lowers=2, options="index=on")
def hard_link_in_another_layer(b):
    write(b.l + "/a", "low")
    os.link(b.l + "/a", b.lowers[1] + "/b")
    b.mount()
    same(read(b.m + "/a") + read(b.m + "/b"), "lowlow")
    same(exists(b.m + "/c"), False)
    fd = b.open(b.m + "/b")
    write(b.l + "/c")
    b.changed("")
    os.fchmod(fd, 0o600)
    same(exists(b.m + "/c"), True)
    same(stat.S_IMODE(os.stat(b.m + "/a").st_mode), 0o600)
    os.unlink(b.l + "/a")
    b.changed("")
    same(exists(b.m + "/a"), False)
    same(read(b.m + "/b"), "low")


@case(lowers=2, options="metacopy=on,redirect_dir=on")
def data_of_a_held_lower_metacopy_file_is_replaced(b):
    write(b.lowers[1] + "/f", "old")
    write(b.l + "/f", "\0" * 3)
    os.setxattr(b.l + "/f", "trusted.overlay.metacopy", b"")
    b.mount()
    same(read(b.m + "/f"), "old")
    fd = b.open(b.m + "/f")
    replace(b.lowers[1] + "/f", "new")
    b.changed("")
    same(read(b.m + "/f"), "new")
    same(os.pread(fd, 10, 0), b"old")


@case(options="metacopy=on,redirect_dir=on")
def old_data_is_not_copied_over_the_new(b):
    write(b.l + "/f", "old")
    b.mount()
    os.chmod(b.m + "/f", 0o600)
    fd = b.open(b.m + "/f")
    replace(b.l + "/f", "new")
    b.changed("")
    with open(b.m + "/f", "a") as f:
        f.write("+up")
    same(read(b.m + "/f"), "new+up")
    same(err_of(lambda: b.open(f"/proc/self/fd/{fd}", os.O_WRONLY)), errno.ESTALE)
    same(read(b.m + "/f"), "new+up")
    # Unlinked is another matter
    write(b.l + "/g", "low")
    b.changed("")
    os.chmod(b.m + "/g", 0o600)
    fd = b.open(b.m + "/g")
    os.unlink(b.m + "/g")
    os.write(b.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_APPEND), b"+up")
    same(read(f"/proc/self/fd/{fd}"), "low+up")


@case()
def create_and_remove_after_lower_changes(b):
    os.mkdir(b.l + "/d")
    b.mount()
    same(exists(b.m + "/d/f"), False)
    write(b.l + "/d/f", "low")
    b.changed("d")
    same(err_of(os.open, b.m + "/d/f", os.O_CREAT | os.O_EXCL | os.O_WRONLY), errno.EEXIST)
    os.unlink(b.m + "/d/f")
    same(exists(b.m + "/d/f"), False)
    os.rmdir(b.m + "/d")
    same(exists(b.m + "/d"), False)
    same(ls(b.l + "/d"), ["f"])


# more overlays


@case()
def overlay_on_overlay(b):
    os.mkdir(b.l + "/d")
    b.mount()
    os.mkdir(b.top + "/m2")
    opt = "" if MODE == "stock" else f",lower_changes={MODE}"
    mount("overlay", b.top + "/m2", "overlay", 0, f"lowerdir={b.m}:{b.w}{opt}")
    b.mounts.append(b.top + "/m2")
    same(exists(b.top + "/m2/d/f"), False)
    write(b.l + "/d/f", "1")
    b.changed("d")
    if MODE == "manual":
        invalidate(b.top + "/m2/d")
    same(read(b.top + "/m2/d/f"), "1")
    os.unlink(b.m + "/d/f")
    if MODE == "manual":
        invalidate(b.top + "/m2/d")
    same(exists(b.top + "/m2/d/f"), False)


@case()
def two_overlays_share_a_lower(b):
    b.mount()
    os.mkdir(b.top + "/m2")
    opt = "" if MODE == "stock" else f",lower_changes={MODE}"
    os.mkdir(b.top + "/e")
    mount("overlay", b.top + "/m2", "overlay", 0, f"lowerdir={b.l}:{b.top}/e{opt}")
    b.mounts.append(b.top + "/m2")
    for m in (b.m, b.top + "/m2"):
        same(exists(m + "/f"), False)
    write(b.l + "/f", "1")
    for m in (b.m, b.top + "/m2"):
        if MODE == "manual":
            invalidate(m)
        same(read(m + "/f"), "1")


@case(upper=True)
def cgroup_as_lower(b):
    b.lowers = ["/sys/fs/cgroup"]
    b.mount()
    cg = "/sys/fs/cgroup/ovltest"
    try:
        same(exists(b.m + "/ovltest"), False)
        os.mkdir(cg)
        b.changed("")
        same(exists(b.m + "/ovltest/cgroup.procs"), True)
        write(b.m + "/ovltest/note", "mine")
        same("note" in ls(b.m + "/ovltest") and "cgroup.procs" in ls(b.m + "/ovltest"), True)
        os.rmdir(cg)
        b.changed("")
        same(ls(b.m + "/ovltest"), ["note"])
        same(read(b.m + "/ovltest/note"), "mine")
        os.mkdir(cg)
        b.changed("")
        same(exists(b.m + "/ovltest/cgroup.procs"), True)
    finally:
        if os.path.isdir(cg):
            os.rmdir(cg)


@case(upper=True)
def cgroup_controller_files(b):
    b.lowers = ["/sys/fs/cgroup"]
    b.mount()
    root = "/sys/fs/cgroup"
    os.mkdir(root + "/ovlc")
    try:
        same(exists(b.m + "/ovlc/pids.max"), False)
        same("pids.max" in ls(b.m + "/ovlc"), False)
        write(root + "/cgroup.subtree_control", "+pids")
        b.changed("ovlc")
        same(exists(b.m + "/ovlc/pids.max"), True)
        same("pids.max" in ls(b.m + "/ovlc"), True)
        write(root + "/cgroup.subtree_control", "-pids")
        b.changed("ovlc")
        same(exists(b.m + "/ovlc/pids.max"), False)
    finally:
        os.rmdir(root + "/ovlc")


@case(upper=True)
def cgroup_listings_that_are_held(b):
    b.lowers = ["/sys/fs/cgroup"]
    root = "/sys/fs/cgroup"
    os.mkdir(root + "/ovlh")
    try:
        b.mount()
        top, held = b.open(b.m), b.open(b.m + "/ovlh")
        same(("ovlh2" in fdls(top), "pids.max" in fdls(held)), (False, False))
        os.mkdir(root + "/ovlh2")
        b.changed("")
        same("ovlh2" in fdls(top), True)
        os.rmdir(root + "/ovlh2")
        b.changed("")
        same("ovlh2" in fdls(top), False)
        for sign, there in (("+", True), ("-", False)):
            write(root + "/cgroup.subtree_control", sign + "pids")
            b.changed("ovlh")
            same("pids.max" in fdls(held), there)
            same(err_of(lambda: os.stat("pids.max", dir_fd=held)), 0 if there else errno.ENOENT)
    finally:
        os.rmdir(root + "/ovlh")
        if os.path.isdir(root + "/ovlh2"):
            os.rmdir(root + "/ovlh2")


@case(upper=True)
def chmod_and_chown_of_a_cgroup(b):
    """How a cgroup is given to a user."""
    b.lowers = ["/sys/fs/cgroup"]
    cg = "/sys/fs/cgroup/ovlm"
    os.chmod(b.top, 0o755)
    os.mkdir(cg)
    try:
        b.mount()
        os.stat(b.m + "/ovlm/cgroup.procs")
        same(as_nobody(lambda: not os.access(b.m + "/ovlm", os.W_OK)), True)
        for name in ("", "/cgroup.procs"):
            os.chown(cg + name, 65534, 65534)
        os.chmod(cg, 0o700)
        b.changed("", "ovlm")
        st = os.stat(b.m + "/ovlm")
        same((st.st_uid, stat.S_IMODE(st.st_mode)), (65534, 0o700))
        same(os.stat(b.m + "/ovlm/cgroup.procs").st_uid, 65534)
        same(as_nobody(lambda: os.access(b.m + "/ovlm", os.R_OK | os.W_OK)), True)
    finally:
        os.rmdir(cg)


@case(upper=True)
def cgroup_is_followed_by_its_events(b):
    """With both series, kernfs tells all of its changes: no falling back to reval, and no lookups below for nothing."""
    if MODE != "notify":
        raise Skip("is about notify")
    b.lowers = ["/sys/fs/cgroup"]
    root, cg = b.lowers[0], b.lowers[0] + "/ovle"
    os.mkdir(cg)
    try:
        ino = check(libc.inotify_init1(os.O_NONBLOCK), "inotify_init1")
        b.fds.append(ino)
        ls(cg)
        check(libc.inotify_add_watch(ino, os.fsencode(cg), 0x100), "inotify_add_watch")
        write(root + "/cgroup.subtree_control", "+pids")
        write(root + "/cgroup.subtree_control", "-pids")
        if err_of(os.read, ino, 4096) == errno.EAGAIN:
            raise Skip("kernfs reports nothing here: its series is not in this kernel")
        b.mount()
        same("lower_changes=notify" in options_of(b.m), True)
        held = b.open(b.m + "/ovle")
        for _ in range(3):
            same(exists(b.m + "/ovle/pids.max"), False)
            same("pids.max" in fdls(held), False)
            write(root + "/cgroup.subtree_control", "+pids")
            same(exists(b.m + "/ovle/pids.max"), True)
            same(read(b.m + "/ovle/pids.max"), "max\n")
            same("pids.max" in fdls(held), True)
            write(root + "/cgroup.subtree_control", "-pids")
        os.mkdir(cg + "/a")
        same(exists(b.m + "/ovle/a/cgroup.procs"), True)
        os.rmdir(cg + "/a")
        same(exists(b.m + "/ovle/a"), False)
        write(b.m + "/ovle/note", "mine")
        os.rmdir(cg)
        same(fdls(held), ["note"])
        os.mkdir(cg)
        same("cgroup.procs" in fdls(held) and "note" in fdls(held), True)
        # As the kernel changes it, not a user of the directory
        os.chown(cg + "/cgroup.procs", 1000, 1000)
        same(os.stat(b.m + "/ovle/cgroup.procs").st_uid, 1000)
    finally:
        os.rmdir(cg)


# change times: with reval, what was looked at and did not change is not looked at again


def everything(top):
    """Types, modes, owners and contents of all names, each looked up. Stock lists whiteouts of pure dirs."""
    found = {}
    for directory, dirs, files in os.walk(top):
        for n in dirs + files:
            path = f"{directory}/{n}"
            try:
                st = os.lstat(path)
            except FileNotFoundError:
                continue
            what = (stat.S_IFMT(st.st_mode), stat.S_IMODE(st.st_mode), st.st_uid, st.st_gid)
            if stat.S_ISREG(st.st_mode):
                what += (read(path),)
            elif stat.S_ISLNK(st.st_mode):
                what += (os.readlink(path),)
            found[path[len(top):]] = what
    return found


def settled(*paths):
    """
    Looks when the last changes are some ticks of the clock ago, and so often that nothing remains to be learned. Only with
    reval does that depend on the clock.
    """
    reval = MODE == "reval"
    if reval:
        time.sleep(0.05)
    for _ in range(3 if reval else 1):
        for p in paths:
            err_of(os.stat, p)


def fresh_view(b):
    """What a new mount shows, and by its names what there is to look at."""
    top = b.top + "/fresh"
    os.makedirs(top, exist_ok=True)
    mount("overlay", top, "overlay", 0, ",".join(["lowerdir=" + ":".join(b.lowers), b.extra]).strip(","))
    try:
        return everything(top)
    finally:
        umount(top, 0)


def rename2(flags):
    def rename(a, z):
        check(libc.renameat2(-100, os.fsencode(a), -100, os.fsencode(z), flags), "renameat2")

    return rename


def link_tmpfile(directory, path):
    fd = os.open(directory, os.O_TMPFILE | os.O_WRONLY, 0o644)
    try:
        os.write(fd, b"linked")
        check(libc.linkat(-100, os.fsencode(f"/proc/self/fd/{fd}"), -100, os.fsencode(path), 0x400), "linkat")
    finally:
        os.close(fd)


def xattr_set(path, name, value):
    os.setxattr(path, "trusted.overlay." + name, value)


def xattr_gone(path, name):
    os.removexattr(path, "trusted.overlay." + name)


# What is done, with what, and whose ctime must be another then. t, m and l are the top, middle and last lower.
KINDS_OF_CHANGE = [
    ("create", write, ("t/d/new", "1"), "t/d"),
    ("create over", write, ("t/d/low", "over"), "t/d"),
    ("mkdir", os.mkdir, ("t/d/newdir",), "t/d"),
    ("mkdir that merges", os.mkdir, ("t/d/lowdir",), "t/d"),
    ("mkdir in the middle", os.mkdir, ("m/d/lowdir",), "m/d"),
    ("mkfifo", os.mkfifo, ("t/d/fifo",), "t/d"),
    ("symlink", os.symlink, ("there", "t/d/sym"), "t/d"),
    ("link", os.link, ("t/d/f", "t/d/hard"), "t/d t/d/f"),
    ("link from elsewhere", os.link, ("t/e/f", "t/d/hard2"), "t/d"),
    ("link of an O_TMPFILE", link_tmpfile, ("t/e", "t/d/tmpfile"), "t/d"),
    ("unlink", os.unlink, ("t/d/new",), "t/d"),
    ("unlink what was over another", os.unlink, ("t/d/low",), "t/d"),
    ("rmdir", os.rmdir, ("t/d/newdir",), "t/d"),
    ("rmdir what was merged", os.rmdir, ("t/d/lowdir",), "t/d"),
    ("rename", os.rename, ("t/d/f", "t/d/g"), "t/d"),
    ("rename to another directory", os.rename, ("t/d/g", "t/e/g"), "t/d t/e"),
    ("rename over a file", os.rename, ("t/e/g", "t/e/f"), "t/e"),
    ("rename over a file elsewhere", os.rename, ("t/e/f", "t/d/hard2"), "t/d t/e"),
    ("rename of a directory", os.rename, ("t/d/sub", "t/e/sub"), "t/d t/e"),
    ("rename of a directory over an empty one", os.rename, ("t/e/sub", "t/d/empty"), "t/d t/e"),
    ("rename without replacing", rename2(1), ("t/d/hard", "t/d/f"), "t/d"),
    ("exchange", rename2(2), ("t/d/f", "t/d/sym"), "t/d"),
    ("exchange with another directory", rename2(2), ("t/d/f", "t/x/f"), "t/d t/x"),
    ("exchange of directories", rename2(2), ("t/d/empty", "t/x/dir"), "t/d t/x"),
    ("rename that leaves a whiteout", rename2(4), ("t/w/low", "t/x/low"), "t/w t/x"),
    ("whiteout", whiteout, ("t/w/other",), "t/w"),
    ("whiteout in the middle", whiteout, ("m/w/deep",), "m/w"),
    ("whiteout is replaced by a file", os.rename, ("t/x/low", "t/w/other"), "t/w t/x"),
    ("whiteout is removed", os.unlink, ("m/w/deep",), "m/w"),
    ("opaque", xattr_set, ("t/o", "opaque", b"y"), "t/o"),
    ("not opaque", xattr_gone, ("t/o", "opaque"), "t/o"),
    ("opaque in the middle", xattr_set, ("m/o", "opaque", b"y"), "m/o"),
    ("not opaque in the middle", xattr_gone, ("m/o", "opaque"), "m/o"),
    ("directory with xattr whiteouts", xattr_set, ("t/o", "opaque", b"x"), "t/o"),
    ("xattr whiteout", xattr_set, ("t/o/nil", "whiteout", b""), "t/o/nil"),
    ("no xattr whiteout", xattr_gone, ("t/o/nil", "whiteout"), "t/o/nil"),
    ("redirect", xattr_set, ("t/r", "redirect", b"was"), "t/r"),
    ("no redirect", xattr_gone, ("t/r", "redirect"), "t/r"),
    ("absolute redirect", xattr_set, ("t/r", "redirect", b"/o/p/was"), "t/r"),
    ("change where that leads", os.rename, ("l/o/p/was", "l/o/p/is"), "l/o/p"),
    ("change back", os.rename, ("l/o/p/is", "l/o/p/was"), "l/o/p"),
    ("change on the way there", os.rename, ("l/o/p", "l/o/q"), "l/o"),
    ("metacopy", xattr_set, ("t/meta", "metacopy", b""), "t/meta"),
    ("metacopy of metacopy", xattr_set, ("m/meta", "metacopy", b""), "m/meta"),
    ("no metacopy of metacopy", xattr_gone, ("m/meta", "metacopy"), "m/meta"),
    ("no metacopy", xattr_gone, ("t/meta", "metacopy"), "t/meta"),
    ("chmod", os.chmod, ("t/x/sub", 0o700), "t/x/sub"),
    ("chown", os.chown, ("t/meta", 7, 8), "t/meta"),
    ("write", write, ("t/meta", "text"), "t/meta"),
    ("directory is removed at the top", os.rename, ("t/w", "t/gone"), "t"),
    ("directory is exchanged in the middle", rename2(2), ("m/w", "m/o"), "m"),
]


def changes_of_every_kind(b, stamps_tell=True):
    here = os.path.dirname(b.l) + "/kinds"
    b.lowers, b.u = [f"{here}/{n}" for n in "tml"], None
    b.extra = "metacopy=on,redirect_dir=follow"
    for n in ("t/d/sub t/d/empty t/e t/x/sub t/x/dir t/w t/o t/r m/d m/w m/o m/r l/d/lowdir/in l/w l/o/p/was l/o/sub l/r "
              "l/was").split():
        os.makedirs(f"{here}/{n}")
    for n in ("t/d/f t/e/f t/x/f t/x/dir/f t/d/sub/f t/w/low t/meta m/meta l/meta l/d/low l/d/lowdir/f m/w/f m/w/mid "
              "l/w/deep l/w/other l/w/low l/o/f m/o/mid l/o/nil l/o/p/was/f l/r/f l/was/g").split():
        write(f"{here}/{n}", n)
    write(here + "/t/o/nil")
    for n in ("t/meta", "m/meta", "l/meta"):
        write(f"{here}/{n}", n[0] * 6)
    b.mount()
    ctimes = lambda names: [os.stat(f"{here}/{n}").st_ctime_ns for n in names.split()]
    view, seen, missed = everything(b.m), set(), []
    for name, func, args, changed in KINDS_OF_CHANGE:
        # All names that there are or were, so that names that are missing are known to be
        seen |= view.keys()
        settled(*(b.m + p for p in seen))
        same(everything(b.m), view, "before " + name)
        before = ctimes(changed)
        func(*(f"{here}/{a}" if str(a)[:2] in ("t/", "m/", "l/") else a for a in args))
        missed += [f"{name}: {n}" for n, t, now in zip(changed.split(), before, ctimes(changed)) if t == now]
        if MODE == "manual":
            invalidate(b.m, OVL_INVALIDATE_SUBTREE)
        expected = fresh_view(b)
        for p in sorted(seen | expected.keys()):
            same(exists(b.m + p), p in expected, f"{p} after {name}")
        view = everything(b.m)
        same(view, expected, "after " + name)
    # The others did not wait for the clock
    if MODE == "reval":
        same(missed != [], not stamps_tell, f"ctimes that did not change: {missed}")


def changes_that_stamps_do_not_tell(b):
    changes_of_every_kind(b, False)


@case()
def every_kind_of_change(b):
    changes_of_every_kind(b)


@case()
def impure_mark_of_a_dir_goes_with_its_last_name(b):
    write(b.l + "/f", "1")
    b.mount()
    os.mkdir(b.m + "/d")
    os.rename(b.m + "/f", b.m + "/d/f")
    same(os.listdir(b.m + "/d"), ["f"])
    same(os.getxattr(b.u + "/d", "trusted.overlay.impure"), b"y")
    os.unlink(b.m + "/d/f")
    same(os.listdir(b.m + "/d"), [])
    same(err_of(os.getxattr, b.u + "/d", "trusted.overlay.impure"), errno.ENODATA)


def two_dirs_of_which_one_is_merged(b):
    """Lower a/x and b/x with a file f each; gives the path of a/x, which has an upper, too, after it was looked at for a while."""
    for n in "ab":
        os.makedirs(f"{b.l}/{n}/x")
        write(f"{b.l}/{n}/x/f", n)
    b.mount()
    write(b.m + "/a/x/up", "")
    same(read(b.m + "/a/x/f"), "a")
    settled(b.m + "/a/x/f")
    return b.m + "/a/x"


def exchange_both(b):
    libc.renameat2(-100, os.fsencode(b.l + "/a"), -100, os.fsencode(b.l + "/b"), 2)
    b.changed("")


@case()
def cwd_that_a_path_with_a_dot_led_to(b):
    """The path ends in a directory that it passed on the way: the next one that starts there is not its next step."""
    os.chdir(two_dirs_of_which_one_is_merged(b) + "/.")
    exchange_both(b)
    same(read("f"), "b")


@case()
def dir_below_a_mount_where_a_walk_starts(b):
    """The path before led through it into what is mounted there, and did not go on in it."""
    directory = two_dirs_of_which_one_is_merged(b)
    os.chdir(directory)
    mount("inner", directory, "tmpfs")
    try:
        same(exists(directory + "/f"), False)
        exchange_both(b)
        same(read("f"), "b")
    finally:
        umount(directory)


@case()
def names_that_were_looked_at_for_a_while(b):
    os.makedirs(b.l + "/d/e")
    write(b.l + "/d/e/f", "old")
    b.mount()
    paths = [b.m + p for p in ("/d/e/f", "/d/e/g", "/d/new/f")]
    settled(*paths)
    held = b.open(b.m + "/d/e")
    write(b.l + "/d/e/g", "1")
    b.changed("d/e")
    same(os.stat("g", dir_fd=held).st_size, 1)
    settled(*paths)
    replace(b.l + "/d/e/f", "newer")
    b.changed("d/e")
    same(read(paths[0]), "newer")
    settled(*paths)
    os.rename(b.l + "/d/e", b.l + "/d/new")
    b.changed("d")
    same([exists(p) for p in paths], [False, False, True])
    settled(*paths)
    os.rename(b.l + "/d", b.l + "/other")
    b.changed("")
    same([exists(p) for p in paths], [False, False, False])
    same(read(b.m + "/other/new/f"), "newer")


@case()
def changes_while_others_look(b):
    """A look that began before a change must not make others take what it saw for what is there after."""
    os.mkdir(b.l + "/d")
    write(b.l + "/d/f", "0")
    b.mount()
    pids = []
    for _ in range(2):
        pid = os.fork()
        if pid == 0:
            while True:
                err_of(os.stat, b.m + "/d/f")
                err_of(os.stat, b.m + "/d/g")
        pids.append(pid)
    try:
        for i in range(150):
            # With reval long enough for the change before to be some ticks ago, more or less
            time.sleep(0.005 + i % 5 * 0.01 if MODE == "reval" else 0.001)
            replace(b.l + "/d/f", str(i))
            b.changed("d")
            same(read(b.m + "/d/f"), str(i))
            (write if i % 2 else lambda p: err_of(os.unlink, p))(b.l + "/d/g")
            b.changed("d")
            same(exists(b.m + "/d/g"), i % 2 == 1)
    finally:
        for pid in pids:
            os.kill(pid, 9)
            os.waitpid(pid, 0)


def at_tick(t):
    while time.clock_gettime_ns(5) < t:
        pass


@case()
def clock_that_is_set_back(b):
    """Twice to the same time, with a change in the very tick in which there was one the time before."""
    os.mkdir(b.l + "/d")
    b.mount()
    now, ran = time.time(), time.monotonic()
    start, tick = (int(now) - 7200) * 10**9, 10**7
    try:
        time.clock_settime_ns(time.CLOCK_REALTIME, start)
        at_tick(start + 5 * tick)
        write(b.l + "/d/1")
        settled(b.m + "/d/new")
        time.clock_settime_ns(time.CLOCK_REALTIME, start)
        at_tick(start + 2 * tick)
        write(b.l + "/d/2")
        at_tick(start + 5 * tick)
        write(b.l + "/d/new")
        b.changed("d")
        same(exists(b.m + "/d/new"), True)
        for i in range(20):
            replace(b.l + "/d/new", str(i))
            b.changed("d")
            same(read(b.m + "/d/new"), str(i))
    finally:
        time.clock_settime(time.CLOCK_REALTIME, now + time.monotonic() - ran)


@case()
def ctimes_in_the_future(b):
    now, ran = time.time(), time.monotonic()
    os.mkdir(b.l + "/d")
    b.mount()
    try:
        time.clock_settime(time.CLOCK_REALTIME, now + 7200)
        write(b.l + "/d/f", "old")
    finally:
        time.clock_settime(time.CLOCK_REALTIME, now + time.monotonic() - ran)
    settled(b.m + "/d/f", b.m + "/d/g")
    replace(b.l + "/d/f", "new")
    b.changed("d")
    same(read(b.m + "/d/f"), "new")


@case()
def followed_again_after_a_time_without(b):
    if MODE == "stock":
        raise Skip("is for patched kernels")
    os.mkdir(b.l + "/d")
    write(b.l + "/d/f", "old")
    b.mount()
    settled(b.m + "/d/f", b.m + "/d/g")
    for mode in ("off", "manual", "notify"):
        reconfigure(b.m, lower_changes=mode)
        replace(b.l + "/d/f", mode)
        write(f"{b.l}/d/{mode}")
        reconfigure(b.m, lower_changes=b.mode)
        b.changed("d")
        same(read(b.m + "/d/f"), mode)
        same(exists(f"{b.m}/d/{mode}"), True)
        settled(b.m + "/d/f", b.m + "/d/g")


# other lower filesystems


def filesystems():
    with open("/proc/filesystems") as f:
        return [line.split()[-1] for line in f]


def on_image(b, fstype, device, size, mkfs, run, xattr=None):
    """Runs cases with all layers on a filesystem of its own."""
    if fstype not in filesystems():
        raise Skip(f"no {fstype} in this kernel")
    if not shutil.which(mkfs[0]) or not os.path.exists(device):
        raise Skip(f"no {mkfs[0]} or no {device}")
    img, top = b.top + "/img", b.top + "/e"
    with open(img, "wb") as f:
        f.truncate(size)
    subprocess.run([*mkfs, img], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    subprocess.run(["losetup", device, img], check=True)
    was = b.m, b.l, b.lowers, b.u, b.w
    try:
        os.mkdir(top)
        mount(device, top, fstype)
        b.mounts.append(top)
        for i, func in enumerate(run):
            for d in "luw":
                os.mkdir(f"{top}/{d}{i}")
                if xattr:
                    xattr(f"{top}/{d}{i}")
            b.lowers, b.u, b.w = [f"{top}/l{i}"], f"{top}/u{i}", f"{top}/w{i}"
            b.l = b.lowers[0]
            try:
                func(b)
            except AssertionError as e:
                raise AssertionError(f"{func.__name__}: {e}") from e
            os.chdir("/")
            while b.fds:
                os.close(b.fds.pop())
            umount(b.m, 0)
            b.mounts.remove(b.m)
        umount(top, 0)
        b.mounts.remove(top)
    finally:
        os.chdir("/")
        while b.fds:
            os.close(b.fds.pop())
        for m in (b.m, top):
            if m in b.mounts:
                umount(m)
                b.mounts.remove(m)
        b.m, b.l, b.lowers, b.u, b.w = was
        subprocess.run(["losetup", "-d", device])


def on_disk():
    return (file_created_after_cached_enoent, file_replaced_by_rename, merged_dir_renamed_in_lower,
            dir_removed_and_recreated, lower_of_merged_dir_removed_upper_files_stay,
            cwd_in_merged_dir_whose_lower_is_recreated, copied_up_file_renamed_in_lower, chmod_and_chown_seen_by_others_,
            whiteout_in_upper_hides_what_appears_below, listing_held_open, names_that_were_looked_at_for_a_while,
            changes_of_every_kind)


def chmod_and_chown_seen_by_others_(b):
    os.chmod(b.top + "/e", 0o755)
    chmod_and_chown_seen_by_others(b)


@case()
def ext4_as_lower_and_upper(b):
    on_image(b, "ext4", "/dev/loop3", 32 << 20, ["mkfs.ext4", "-q"], on_disk())


@case()
def ext4_with_times_in_seconds(b):
    on_image(b, "ext4", "/dev/loop3", 32 << 20, ["mkfs.ext4", "-q", "-I", "128"],
             (*on_disk()[:-1], changes_that_stamps_do_not_tell))


def handle_of(path):
    """As open_by_handle_at(2) takes it."""
    raw = ctypes.create_string_buffer(struct.pack("=Ii", 128, 0) + bytes(128))
    check(libc.name_to_handle_at(-100, os.fsencode(path), raw, ctypes.byref(ctypes.c_int()), 0), "name_to_handle_at")
    return raw


def whiteout_by_xattr_that_goes_through_a_handle(b):
    """What is changed has no name in the dcache then, and so no directory."""
    top = b.top + "/e"
    os.mkdir(b.l + "/d")
    xattr_set(b.l + "/d", "opaque", b"x")
    write(b.l + "/d/f")
    xattr_set(b.l + "/d/f", "whiteout", b"y")
    handle = handle_of(b.l + "/d/f")
    os.makedirs(top + "/below/d")
    b.lowers = [b.l, top + "/below"]
    b.mount()
    if exists(b.m + "/d/f"):
        raise Skip("no xwhiteouts in overlayfs of this kernel")
    settled(b.m + "/d/f")
    # Names of the lower that nobody uses are forgotten, those of the overlay are not
    mount("none", top, None, MS_REMOUNT)
    root = b.open(top)
    fd = check(libc.open_by_handle_at(root, handle, os.O_RDONLY), "open_by_handle_at")
    b.fds.append(fd)
    same(os.readlink(f"/proc/self/fd/{fd}"), "/")
    os.removexattr(fd, "trusted.overlay.whiteout")
    b.changed("d")
    same(exists(b.m + "/d/f"), True)


@case()
def changed_through_a_handle(b):
    on_image(b, "ext4", "/dev/loop3", 32 << 20, ["mkfs.ext4", "-q"], (whiteout_by_xattr_that_goes_through_a_handle,))


FS_IOC_SET_ENCRYPTION_POLICY, FS_IOC_ADD_ENCRYPTION_KEY, FS_IOC_REMOVE_ENCRYPTION_KEY = 0x800C6613, 0xC0506617, 0xC0406618


def encryption_ioctl(path, number, arg):
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return fcntl.ioctl(fd, number, arg)
    finally:
        os.close(fd)


def add_key(top, raw):
    """The key's identifier."""
    spec = struct.pack("=II32s", 2, 0, b"")
    done = encryption_ioctl(top, FS_IOC_ADD_ENCRYPTION_KEY, spec + struct.pack("=II32s", len(raw), 0, b"") + raw)
    return done[8:24]


def names_of_a_dir_whose_key_is_added(b):
    top, raw = b.top + "/e", bytes(range(64))
    os.mkdir(b.l + "/c")
    try:
        identifier = add_key(top, raw)
        # AES-256-XTS, AES-256-CTS, names padded to 32 bytes
        policy = struct.pack("=BBBBB3s16s", 2, 1, 4, 3, 0, b"", identifier)
        encryption_ioctl(b.l + "/c", FS_IOC_SET_ENCRYPTION_POLICY, policy)
        os.mkdir(b.l + "/c/d")
        write(b.l + "/c/f", "secret")
    except OSError as e:
        # ENOENT, ENOPKG: what it is made with is not there
        if e.errno not in (errno.EOPNOTSUPP, errno.ENOTTY, errno.ENOPKG, errno.ENOENT):
            raise
        raise Skip("no encryption in ext4 of this kernel, or no algorithm for it")
    key = struct.pack("=II16s16s", 2, 0, identifier, b"")
    encryption_ioctl(top, FS_IOC_REMOVE_ENCRYPTION_KEY, key + bytes(24))
    b.mount()
    same([exists(f"{b.m}/c/{name}") for name in ("f", "d", "up")], [False] * 3)
    write(b.m + "/c/up")
    held = b.open(b.m + "/c")
    same(len(fdls(held)), 3)
    same("f" in fdls(held), False)
    os.chdir(b.m + "/c")
    same(add_key(top, raw), identifier)
    same(exists("d"), True)
    same(read(b.m + "/c/f"), "secret")
    same(fdls(held), ["d", "f", "up"])


@case()
def ext4_with_encryption(b):
    on_image(b, "ext4", "/dev/loop3", 32 << 20, ["mkfs.ext4", "-q", "-O", "encrypt"],
             (names_of_a_dir_whose_key_is_added, *on_disk()))


@case()
def xfs_as_lower_and_upper(b):
    on_image(b, "xfs", "/dev/loop3", 320 << 20, ["mkfs.xfs", "-q"], on_disk())


@case()
def btrfs_as_lower_and_upper(b):
    on_image(b, "btrfs", "/dev/loop3", 128 << 20, ["mkfs.btrfs", "-q"], on_disk())


def casefolded(directory):
    import fcntl
    import struct

    fd = os.open(directory, os.O_RDONLY)
    try:
        flags = struct.unpack("=i", fcntl.ioctl(fd, 0x80086601, struct.pack("=i", 0)))[0]
        fcntl.ioctl(fd, 0x40086602, struct.pack("=i", flags | 0x40000000))
    finally:
        os.close(fd)


def names_of_any_case(b):
    os.mkdir(b.l + "/d")
    b.mount()
    same(exists(b.m + "/D/f"), False)
    same(exists(b.m + "/d/F"), False)
    write(b.l + "/d/f", "1")
    b.changed("d")
    same(read(b.m + "/d/F") + read(b.m + "/D/f"), "11")
    replace(b.l + "/D/F", "22")
    b.changed("D")
    same(read(b.m + "/d/F") + read(b.m + "/D/f"), "2222")
    os.unlink(b.l + "/d/f")
    b.changed("d")
    same(exists(b.m + "/D/f"), False)
    write(b.m + "/d/Up", "u")
    os.rmdir(b.l + "/D")
    b.changed("")
    same(read(b.m + "/D/up"), "u")
    same(ls(b.m + "/D"), ["Up"])
    os.mkdir(b.l + "/D")
    write(b.l + "/d/low", "l")
    b.changed("", "d")
    same(read(b.m + "/d/LOW"), "l")
    same(ls(b.m + "/d"), ["Up", "low"])


def dirs_of_any_case(b):
    os.mkdir(b.l + "/d")
    b.mount()
    same(exists(b.m + "/D/e"), False)
    same(exists(b.m + "/d/E"), False)
    os.mkdir(b.l + "/d/e")
    b.changed("d")
    same((exists(b.m + "/d/E"), exists(b.m + "/D/e"), ls(b.m + "/D")), (True, True, ["e"]))
    os.rename(b.l + "/D/E", b.l + "/d/New")
    b.changed("D")
    same((exists(b.m + "/d/e"), exists(b.m + "/D/NEW"), ls(b.m + "/d")), (False, True, ["New"]))
    os.rmdir(b.l + "/d/new")
    b.changed("d")
    same(exists(b.m + "/D/new"), False)
    os.mkdir(b.m + "/d/Up")
    os.rmdir(b.l + "/D")
    b.changed("")
    same((exists(b.m + "/D/up"), ls(b.m + "/D")), (True, ["Up"]))
    os.mkdir(b.l + "/D")
    os.mkdir(b.l + "/d/low")
    b.changed("", "d")
    same((exists(b.m + "/d/LOW"), ls(b.m + "/d")), (True, ["Up", "low"]))


def casefolded_files_work(b):
    """Overlayfs of 7.2.13 wants the casefold flag on files, which they have not, and says EREMOTE, stock as well."""
    low, over = b.top + "/casefolded", b.top + "/over"
    for d in (low, over):
        os.mkdir(d)
    mount("layers", low, "tmpfs", 0, "casefold")
    try:
        for d in "ab":
            os.mkdir(f"{low}/{d}")
            casefolded(f"{low}/{d}")
        write(low + "/a/f")
        mount("overlay", over, "overlay", 0, f"lowerdir={low}/a:{low}/b")
        try:
            return err_of(os.stat, over + "/f") != errno.EREMOTE
        finally:
            umount(over)
    finally:
        umount(low)


@case()
def casefolded_ext4(b):
    if not os.path.exists("/sys/fs/ext4/features/casefold"):
        raise Skip("no casefold in ext4 of this kernel")
    try:
        files_work = casefolded_files_work(b)
    except OSError as e:
        if e.errno != errno.EINVAL:
            raise
        # tmpfs has it since 6.13, overlayfs takes such layers since 6.18
        raise Skip("no casefold in overlayfs of this kernel") from e
    run = (names_of_any_case, dirs_of_any_case, file_replaced_by_rename, lower_of_merged_dir_removed_upper_files_stay,
           dir_removed_and_recreated) if files_work else (dirs_of_any_case,)
    on_image(b, "ext4", "/dev/loop3", 32 << 20, ["mkfs.ext4", "-q", "-O", "casefold"], run, casefolded)


@case()
def casefolded_tmpfs(b):
    top = b.top + "/e"
    os.mkdir(top)
    try:
        mount("layers", top, "tmpfs", 0, "casefold")
    except OSError as e:
        if e.errno != errno.EINVAL:
            raise
        raise Skip("no casefold in tmpfs of this kernel") from e
    b.mounts.append(top)
    for d in "luw":
        os.mkdir(f"{top}/{d}")
        casefolded(f"{top}/{d}")
    b.lowers, b.u, b.w = [top + "/l"], top + "/u", top + "/w"
    b.l = b.lowers[0]
    (names_of_any_case if casefolded_files_work(b) else dirs_of_any_case)(b)


@contextlib.contextmanager
def fuse_of(b, remote, where):
    """Has a server show `remote` at `where`. Gives a list for processes that wait until it is gone."""
    from overlayfs_fuse import fuse_mount

    if "fuse" not in filesystems() or not os.path.exists("/dev/fuse"):
        raise Skip("no fuse in this kernel")
    os.mkdir(remote)
    os.mkdir(where)
    children = []
    server = fuse_mount(remote, where)
    b.mounts.append(where)
    try:
        yield children
    finally:
        os.kill(server, signal.SIGKILL)
        for pid in (server, *children):
            # Some were found to have ended
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)


@case()
def fuse_as_lower(b):
    """Changes behind the kernel's back: reval, which notify works like here, and manual."""
    remote, low = b.top + "/remote", b.top + "/fuse"
    with fuse_of(b, remote, low):
        os.mkdir(remote + "/d")
        write(remote + "/d/f", "1")
        b.lowers, b.l = [low], remote
        b.mount()
        if MODE in ("notify", "reval"):
            same("lower_changes=reval" in options_of(b.m), True)
        same(read(b.m + "/d/f"), "1")
        same(exists(b.m + "/d/g"), False)
        held = b.open(b.m + "/d")
        same(fdls(held), ["f"])
        write(remote + "/d/g", "2")
        b.changed("d")
        same(read(b.m + "/d/g"), "2")
        same(fdls(held), ["f", "g"])
        replace(remote + "/d/f", "other")
        b.changed("d")
        same(read(b.m + "/d/f"), "other")
        write(b.m + "/d/up", "u")
        os.rename(remote + "/d", remote + "/e")
        b.changed("")
        same(fdls(held), ["up"])
        same(ls(b.m + "/d"), ["up"])
        same(ls(b.m + "/e"), ["f", "g"])
        os.rename(remote + "/e", remote + "/d")
        b.changed("")
        same(fdls(held), ["f", "g", "up"])
        os.unlink(remote + "/d/f")
        b.changed("d")
        same(exists(b.m + "/d/f"), False)
        same(read(b.m + "/d/up"), "u")


@case()
def ancestors_that_could_not_be_looked_at(b):
    """Whoever starts below a directory that a lower cannot answer for is right as soon as it can."""
    remote, fuse = b.top + "/remote", b.top + "/fuse"
    os.makedirs(b.l + "/a/p/x")
    write(b.l + "/a/p/x/f", "")
    with fuse_of(b, remote, fuse):
        os.mkdir(remote + "/a")
        b.lowers = [fuse, *b.lowers]
        b.mount()
        write(b.m + "/a/p/x/up", "")
        held = b.open(b.m + "/a/p")
        below = lambda: err_of(lambda: os.stat("x/f", dir_fd=held))
        same(below(), 0)
        # Hides what is below it in the lower after that
        os.rmdir(remote + "/a")
        write(remote + "/a", "")
        b.changed("")
        write(remote + "/.broken", "")
        same(err_of(os.stat, b.m + "/a"), errno.EIO)
        below()
        os.unlink(remote + "/.broken")
        same(below(), errno.ENOENT)
        same(ls(b.m + "/a/p/x"), ["up"])


@case(lowers=2)
def lower_stack_in_use_when_following_begins(b):
    """
    Who looks up in a lower that does not answer uses lower stacks nobody knows of, if overlayfs did not follow then. What is
    replaced must not be freed, also while the switch has not come to the inode, because it waits for another one.
    """
    if MODE == "stock":
        raise Skip("is for patched kernels")
    remote, fuse, low = b.top + "/remote", b.top + "/fuse", b.lowers[1]

    with fuse_of(b, remote, fuse) as children:
        for d in (remote + "/d", remote + "/later", low + "/d"):
            os.mkdir(d)
        b.lowers = [fuse, low]
        b.mode = "off"
        b.mount()
        b.mode = MODE
        os.stat(b.m + "/d")
        # Is come to first: inodes are in the order in which they were used, the last one first
        os.stat(b.m + "/later")
        for d in ("d", "later"):
            children.append(begin(exists, f"{b.m}/{d}/stuck"))
            eventually(lambda: exists(f"{remote}/{d}/stuck.asked"), f"was asked in {d}")
        children.append(begin(lambda: reconfigure(b.m, lower_changes=MODE)))
        wait_until_stuck(children[-1])
        free = lambda: os.statvfs(b.top).f_ffree
        before = free()
        os.rmdir(low + "/d")
        os.stat(b.m + "/d")
        for _ in range(50):
            same(free() - before, 0, "freed while in use")
            time.sleep(0.02)


@case()
def file_whose_copy_up_takes_its_time(b):
    """Its attributes change meanwhile: who looks need not wait for the copy, and who must not use old ones can be killed."""
    if MODE == "stock":
        raise Skip("is for patched kernels")
    remote, fuse = b.top + "/remote", b.top + "/fuse"

    with fuse_of(b, remote, fuse) as children:
        write(remote + "/silent", "1")
        b.lowers = [fuse]
        b.mount()
        same(stat.S_IMODE(os.stat(b.m + "/silent").st_mode), 0o644)
        children.append(begin(os.chmod, b.m + "/silent", 0o640))
        eventually(lambda: exists(remote + "/silent.asked"), "is copied up")
        os.chmod(remote + "/silent", 0o600)
        b.changed("")
        mode_of = lambda: stat.S_IMODE(os.stat(b.m + "/silent").st_mode)
        looks = begin(lambda: write(b.top + "/seen", oct(mode_of())))
        uses = begin(os.open, b.m + "/silent", os.O_RDONLY)
        try:
            eventually(lambda: ended(looks), "stat has ended")
            same(read(b.top + "/seen"), "0o600", "what stat saw")
            wait_until_stuck(uses)
            must_end(uses, "open has ended when it was killed")
        finally:
            for pid in (looks, uses):
                if not ended(pid):
                    os.kill(pid, signal.SIGKILL)
                    children.append(pid)


@case()
def old_name_that_is_asked_for_while_its_dir_gets_another(b):
    """
    One looks at the old name, and has the answer of the lower from before the rename. Then the new one is looked up, and
    then the old one again. The lock of the directory makes them wait in this order.
    """
    if MODE == "stock":
        raise Skip("is for patched kernels")
    if KERNEL < (6, 14):
        raise Skip("d_revalidate is not told the name")
    remote, fuse = b.top + "/remote", b.top + "/fuse"
    with fuse_of(b, remote, fuse) as children:
        b.lowers = [fuse]
        b.mount()
        for i in range(20):
            old, new = f"old{i}", f"new{i}"
            os.mkdir(f"{remote}/{old}")
            os.stat(f"{b.m}/{old}")
            b.changed("")
            hold = f"{remote}/.hold.{old}"
            write(hold, "")
            children.append(begin(exists, f"{b.m}/{old}"))
            eventually(lambda: exists(hold + ".asked"), "was asked")
            os.rename(f"{remote}/{old}", f"{remote}/{new}")
            b.changed("")
            children.append(begin(exists, f"{b.m}/{new}"))
            wait_until_stuck(children[-1])
            again = begin(lambda: write(b.top + "/seen", str(exists(f"{b.m}/{old}"))))
            children.append(again)
            wait_until_stuck(again)
            exists(fuse + "/release")
            for pid in children:
                eventually(lambda: ended(pid), "has ended")
            children.clear()
            same(read(b.top + "/seen"), "False", f"the old name, round {i}")


@case()
def idmapped_lower(b):
    """Owners are those of the mapping of the layer, also after they changed."""
    os.chmod(b.top, 0o755)
    os.mkdir(b.l + "/d")
    write(b.l + "/d/f", "1")
    mapped = b.top + "/mapped"
    os.mkdir(mapped)
    if err_of(idmapped_mount, b.l, mapped, 0, 100000) in (errno.EINVAL, errno.ENOSYS):
        raise Skip("no idmapped mounts of tmpfs")
    b.mounts.append(mapped)
    b.lowers = [mapped]
    b.mount()
    owner = lambda p: os.stat(b.m + p).st_uid
    same((owner("/d"), owner("/d/f")), (100000, 100000))
    same(exists(b.m + "/d/g"), False)
    write(b.l + "/d/g", "2")
    os.chown(b.l + "/d/g", 7, 7)
    os.chown(b.l + "/d/f", 5, 5)
    b.changed("d")
    same((owner("/d/f"), owner("/d/g")), (100005, 100007))
    replace(b.l + "/d/f", "new")
    os.chmod(b.l + "/d/f", 0o600)
    b.changed("d")
    same((read(b.m + "/d/f"), owner("/d/f")), ("new", 100000))
    os.chown(b.l + "/d", 9, 9)
    b.changed("")
    same(owner("/d"), 100009)


@case()
def lowers_on_two_filesystems(b):
    other = b.top + "/other"
    os.mkdir(other)
    mount("other", other, "tmpfs")
    b.mounts.append(other)
    b.lowers = [b.l, other]
    for i, low in enumerate(b.lowers):
        os.makedirs(f"{low}/{i}/d")
        write(f"{low}/{i}/d/f")
    b.mount()
    for i, low in enumerate(b.lowers):
        settled(f"{b.m}/{i}/d/f")
        os.rename(f"{low}/{i}", f"{low}/{i}.away")
        b.changed("")
        same(exists(f"{b.m}/{i}/d/f"), False)
        same(exists(f"{b.m}/{i}.away/d/f"), True)


@case()
def fs_that_may_not_report_all_changes(b):
    if MODE != "notify":
        raise Skip("is about notify")
    ram = b.top + "/ram"
    os.mkdir(ram)
    mount("ram", ram, "ramfs")
    b.mounts.append(ram)
    b.lowers = [b.l, ram]
    b.mount()
    same([o for o in options_of(b.m) if o.startswith("lower_changes")], ["lower_changes=reval"])
    same(exists(b.m + "/f"), False)
    write(ram + "/f")
    same(exists(b.m + "/f"), True)


@case(lowers=2)
def dir_of_a_read_only_upper_gains_a_lower(b):
    up = b.top + "/up"
    os.mkdir(up)
    mount("up", up, "tmpfs")
    b.mounts.append(up)
    b.u, b.w = up + "/u", up + "/w"
    os.mkdir(b.u)
    os.mkdir(b.w)
    b.mount()
    os.mkdir(b.m + "/d")
    write(b.m + "/d/up", "up")
    same(read(b.m + "/d/up"), "up")
    reconfigure(up, ro=True)
    os.mkdir(b.l + "/d")
    write(b.l + "/d/low", "low")
    b.changed("", "d")
    same(read(b.m + "/d/up"), "up")
    same(read(b.m + "/d/low"), "low")
    same(ls(b.m + "/d"), ["low", "up"])


@case()
def mount_in_a_user_namespace(b):
    """May not put a mark on a filesystem of others: works like reval there, and says so."""
    if MODE in ("stock", "manual"):
        raise Skip("is about notify and reval")
    os.chmod(b.top, 0o777)
    script = f"""
import sys, os
sys.path.insert(0, {os.path.dirname(os.path.abspath(__file__))!r})
from overlayfs_lib import *
mount("overlay", {b.m!r}, "overlay", 0, {b.data() + ",userxattr"!r})
print([o for o in options_of({b.m!r}) if o.startswith("lower_changes")][0])
print(exists({b.m + "/f"!r}))
write({b.l + "/f"!r}, "1")
print(read({b.m + "/f"!r}))
"""
    r = subprocess.run(["unshare", "-Urm", sys.executable, "-c", script], capture_output=True, text=True)
    same((r.stdout, r.stderr), ("lower_changes=reval\nFalse\n1\n", ""))


# lifetime


@case()
def stacks_of_a_held_dir_do_not_pile_up(b):
    b.mount()
    os.mkdir(b.m + "/d")
    os.chdir(b.m + "/d")
    free = lambda: os.statvfs(b.top).f_ffree
    before = free()
    for i in range(3000):
        os.mkdir(b.l + "/d")
        b.changed("")
        os.stat(b.m + "/d")
        os.rmdir(b.l + "/d")
        b.changed("")
        os.stat(b.m + "/d")
    # The last ones are let go after a grace period
    for _ in range(100):
        if before - free() <= 4:
            break
        time.sleep(0.02)
    if before - free() > 4:
        raise AssertionError(f"{before - free()} removed lower directories are still in use")


def read_into_nowhere(b, remote, fuse, name, children):
    """Lets a process read a directory into a page that never comes."""
    write(f"{remote}/silent.{name}", "x" * 4096)
    with open(f"{fuse}/silent.{name}", "rb") as f:
        page = mmap.mmap(f.fileno(), 4096, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
    directory = b.open(f"{b.m}/{name}")
    children.append(begin(lambda: libc.getdents64(directory, (ctypes.c_char * 4096).from_buffer(page), 4096)))
    page.close()
    eventually(lambda: exists(f"{remote}/silent.{name}.asked"), f"the buffer for {name} was asked for")


@case()
def switch_that_waits_can_be_killed(b):
    """It waits for who reads a directory. Then the mode is off, as it was."""
    if MODE == "stock":
        raise Skip("is for patched kernels")
    remote, fuse = b.top + "/remote", b.top + "/fuse"
    os.mkdir(b.l + "/d")
    b.mode = "off"
    b.mount()
    b.mode = MODE
    with fuse_of(b, remote, fuse) as children:
        read_into_nowhere(b, remote, fuse, "d", children)
        pid = begin(lambda: reconfigure(b.m, lower_changes=MODE))
        try:
            wait_until_stuck(pid)
            must_end(pid, "the switch has ended when it was killed")
        finally:
            if not ended(pid):
                os.kill(pid, signal.SIGKILL)
                children.append(pid)
        same([o for o in options_of(b.m) if o.startswith("lower_changes")], [])
    reconfigure(b.m, lower_changes=MODE)
    same(exists(b.m + "/d/f"), False)
    write(b.l + "/d/f", "")
    b.changed("d")
    same(exists(b.m + "/d/f"), True)


@case(lowers=2)
def reader_with_a_buffer_that_is_not_there_keeps_nothing(b):
    """Who reads a directory into a page that never comes must not be able to keep lower stacks of others in use."""
    if MODE == "stock":
        raise Skip("is for patched kernels")
    remote, fuse = b.top + "/remote", b.top + "/fuse"
    for d in (b.l + "/real", b.lowers[1] + "/d", *(low + "/merged" for low in b.lowers)):
        os.mkdir(d)
    b.mount()
    with fuse_of(b, remote, fuse) as children:
        for name in ("real", "merged"):
            write(f"{b.l}/{name}/f", "")
            read_into_nowhere(b, remote, fuse, name, children)
        free = lambda: os.statvfs(b.top).f_ffree
        before = free()
        for cycle in range(1200):
            for op in (os.mkdir, os.rmdir):
                op(b.l + "/d")
                b.changed("")
                same(err_of(os.stat, b.m + "/d"), 0, f"cycle {cycle}")
    # The last ones are let go after a grace period
    for _ in range(100):
        if before - free() <= 4:
            break
        time.sleep(0.02)
    same(before - free() <= 4, True, "let go")


@case(lowers=2)
def stuck_user_keeps_a_bounded_number_of_stacks(b):
    """
    A copy up that waits for a frozen upper uses lower stacks all that time. 1,024 may wait for it, no more. Before 6.7 copy
    up waits first, so it is a lookup there: one that stores the origin of a directory that has none.
    """
    if MODE == "stock":
        raise Skip("is for patched kernels")
    if not shutil.which("mkfs.ext4") or not shutil.which("fsfreeze") or not os.path.exists("/dev/loop2"):
        raise Skip("no mkfs.ext4, fsfreeze or /dev/loop2")
    img, up = b.top + "/img", b.top + "/e"
    with open(img, "wb") as f:
        f.truncate(32 << 20)
    subprocess.run(["mkfs.ext4", "-q", img], check=True)
    subprocess.run(["losetup", "/dev/loop2", img], check=True)
    try:
        os.mkdir(up)
        mount("/dev/loop2", up, "ext4")
        b.mounts.append(up)
        b.u, b.w = up + "/u", up + "/w"
        os.mkdir(b.u)
        os.mkdir(b.w)
        os.mkdir(b.lowers[1] + "/d")
        os.mkdir(b.lowers[1] + "/stuck")
        if KERNEL < (6, 7):
            os.mkdir(b.u + "/stuck")
        b.mount()
        free = lambda: os.statvfs(b.top).f_ffree
        before = free()
        subprocess.run(["fsfreeze", "-f", up], check=True)
        pid = os.fork()
        if pid == 0:
            try:
                if KERNEL < (6, 7):
                    os.stat(b.m + "/stuck")
                else:
                    os.chmod(b.m + "/stuck", 0o700)
            finally:
                os._exit(0)
        stale = cycles = 0
        try:
            wait_until_stuck(pid)
            while stale < 3 and cycles < 3000:
                cycles += 1
                for op in (os.mkdir, os.rmdir):
                    op(b.l + "/d")
                    b.changed("")
                    stale += err_of(os.stat, b.m + "/d") == errno.ESTALE
        finally:
            kept = before - free()
            subprocess.run(["fsfreeze", "-u", up], check=True)
            os.waitpid(pid, 0)
        if not 400 < kept < 1100 or not stale:
            raise AssertionError(f"{kept} lower directories kept after {cycles} cycles, ESTALE {stale} times")
        for _ in range(200):
            if before - free() <= 4:
                break
            time.sleep(0.02)
        same(before - free() <= 4, True, "let go after")
        same(err_of(os.stat, b.m + "/d"), 0)
    finally:
        for m in (b.m, up):
            if m in b.mounts:
                umount(m)
                b.mounts.remove(m)
        subprocess.run(["losetup", "-d", "/dev/loop2"])


# directories and files that become something else in place


def directory_with_what_was_copied_up(b):
    """d, of upper alone, with files that have the numbers of their lowers: its listings need these."""
    names = [f"f{n:02}" for n in range(60)]
    for name in names:
        write(f"{b.l}/{name}")
    b.mount()
    os.mkdir(b.m + "/d")
    for name in names:
        os.rename(f"{b.m}/{name}", f"{b.m}/d/{name}")
    return names


@case()
def listing_of_a_dir_of_upper_that_is_merged_meanwhile(b):
    names = directory_with_what_was_copied_up(b)
    old = Listing(b.open(b.m + "/d"))
    old.more(256)
    os.mkdir(b.l + "/d")
    write(b.l + "/d/new")
    b.changed("")
    merged = Listing(b.open(b.m + "/d"))
    merged.more(256)
    same(0 < len(old.found) < len(names) and 0 < len(merged.found) < len(names), True, "both are on their way")
    # As it is, then with another version of the directory
    old.more(256)
    write(b.m + "/d/other")
    old.rest()
    merged.rest()
    same([n for n in names if n not in old.found], [], "the listing that began before")
    same(sorted(merged.found), sorted([".", "..", "new", *names]), "the merged listing")
    same([n for n, ino in [*old.found.items(), *merged.found.items()] if not ino], [], "names without a number")
    same({n: merged.found[n] for n in names}, {n: os.stat(f"{b.m}/d/{n}").st_ino for n in names}, "numbers")


@case()
def listing_of_a_dir_that_was_merged_since_and_is_not_followed(b):
    if MODE == "stock":
        raise Skip("is for patched kernels")
    names = directory_with_what_was_copied_up(b)
    held = b.open(b.m + "/d")
    same(fdls(held), names)
    os.mkdir(b.l + "/d")
    write(b.l + "/d/new")
    b.changed("")
    same(exists(b.m + "/d/new"), True)
    reconfigure(b.m, lower_changes="off")
    same(fdls(held), sorted(["new", *names]))


@case()
def copy_of_a_file_that_grew(b):
    """copy_file_range() ends at the size that the overlay inode has, and cp believes it."""
    write(b.l + "/f", "0123456789")
    b.mount()
    held = b.open(b.m + "/f")
    with open(b.l + "/f", "a") as f:
        f.write("abcdefghij")
    b.changed("")

    def copied():
        out = b.open(b.m + "/copy", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        fd = b.open(b.m + "/f")
        while os.copy_file_range(fd, out, 100):
            pass
        return read(b.m + "/copy")

    same(copied(), "0123456789abcdefghij")
    os.truncate(b.l + "/f", 5)
    b.changed("")
    same(copied(), "01234")
    same(os.fstat(held).st_size, 5)


@case(options="metacopy=on,redirect_dir=on")
def chmod_of_a_held_file_whose_lower_data_was_replaced(b):
    os.chmod(b.top, 0o755)
    write(b.l + "/f", "old")
    b.mount()
    os.chmod(b.m + "/f", 0o644)
    fd = b.open(b.m + "/f")
    replace(b.l + "/f", "new")
    b.changed("")
    same(read(b.m + "/f"), "new")
    see = lambda: as_nobody(lambda: read(b.m + "/f"))
    same(see(), True)
    os.fchmod(fd, 0o600)
    same(see(), False)


def names_of_one_upper_file(b, change):
    """Both names have one inode, as each has seen of the other: by a lock and by the mode."""
    if MODE == "stock":
        raise Skip("is for patched kernels")
    os.chmod(b.top, 0o755)
    write(b.l + "/f", "low")
    b.mount()
    os.chmod(b.m + "/f", 0o644)
    fd = b.open(b.m + "/f")
    change()
    b.changed("")
    os.link(b.m + "/f", b.m + "/name")
    fcntl.flock(fd, fcntl.LOCK_EX)
    other = b.open(b.m + "/name")
    same(err_of(fcntl.flock, other, fcntl.LOCK_EX | fcntl.LOCK_NB), errno.EAGAIN)
    same(as_nobody(lambda: read(b.m + "/f")), True)
    os.chmod(b.m + "/name", 0o600)
    same(as_nobody(lambda: read(b.m + "/f")), False)


@case()
def names_of_one_upper_file_after_a_rename_of_its_lower(b):
    def change():
        os.rename(b.l + "/f", b.l + "/g")
        b.changed("")
        same(read(b.m + "/g"), "low")

    names_of_one_upper_file(b, change)


@case(options="index=on")
def names_of_one_upper_file_after_a_link_of_its_lower_is_seen(b):
    def change():
        os.link(b.l + "/f", b.l + "/g")
        b.changed("")
        same(read(b.m + "/g"), "low")

    names_of_one_upper_file(b, change)


@case()
def names_of_one_upper_file_after_a_link_of_its_lower(b):
    names_of_one_upper_file(b, lambda: os.link(b.l + "/f", b.l + "/g"))


@case()
def names_of_one_upper_file_that_was_in_use_before_following(b):
    def change():
        reconfigure(b.m, lower_changes=MODE)
        b.mode = MODE
        os.rename(b.l + "/f", b.l + "/g")
        b.changed("")
        same(read(b.m + "/g"), "low")

    b.mode = "default"
    names_of_one_upper_file(b, change)


def dir_that_is_merged_while_it_is_renamed(b):
    """Rename waits for a frozen upper, after it has looked whether d is merged. Returns what rename says."""
    if MODE == "stock":
        raise Skip("is for patched kernels")
    if not shutil.which("mkfs.ext4") or not shutil.which("fsfreeze") or not os.path.exists("/dev/loop2"):
        raise Skip("no mkfs.ext4, fsfreeze or /dev/loop2")
    img, up = b.top + "/img", b.top + "/e"
    with open(img, "wb") as f:
        f.truncate(32 << 20)
    subprocess.run(["mkfs.ext4", "-q", img], check=True)
    subprocess.run(["losetup", "/dev/loop2", img], check=True)
    try:
        os.mkdir(up)
        mount("/dev/loop2", up, "ext4")
        b.mounts.append(up)
        b.u, b.w = up + "/u", up + "/w"
        os.mkdir(b.u)
        os.mkdir(b.w)
        os.mkdir(b.l + "/d")
        b.mount()
        write(b.m + "/d/up")
        # It keeps the origin xattr, so that being merged again writes nothing
        os.rmdir(b.l + "/d")
        b.changed("")
        same(ls(b.m + "/d"), ["up"])
        subprocess.run(["fsfreeze", "-f", up], check=True)
        try:
            pid = os.fork()
            if pid == 0:
                os._exit(err_of(os.rename, b.m + "/d", b.m + "/e"))
            wait_until_stuck(pid)
            os.mkdir(b.l + "/d")
            write(b.l + "/d/low")
            b.changed("")
            same(ls(b.m + "/d"), ["low", "up"])
        finally:
            subprocess.run(["fsfreeze", "-u", up], check=True)
            end = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        seen = {d: ls(f"{b.m}/{d}") for d in ls(b.m)}
        umount(b.m)
        b.mounts.remove(b.m)
        b.mount()
        same({d: ls(f"{b.m}/{d}") for d in ls(b.m)}, seen, "new mount")
        return name_of(end), seen
    finally:
        for m in (b.m, up):
            if m in b.mounts:
                umount(m)
                b.mounts.remove(m)
        subprocess.run(["losetup", "-d", "/dev/loop2"])


@case(options="redirect_dir=nofollow")
def dir_that_may_not_move_since_it_is_merged(b):
    same(dir_that_is_merged_while_it_is_renamed(b), ("EXDEV", {"d": ["low", "up"]}))


@case(options="redirect_dir=on")
def dir_that_leaves_a_whiteout_since_it_is_merged(b):
    same(dir_that_is_merged_while_it_is_renamed(b), ("0", {"e": ["low", "up"]}))


def numbers(path):
    with os.scandir(path) as entries:
        return {e.name: e.inode() for e in entries}


@case(options="redirect_dir=on")
def numbers_in_a_dir_of_upper_with_what_was_moved_there(b):
    os.mkdir(b.l + "/c")
    b.mount()
    os.mkdir(b.m + "/d")
    write(b.m + "/d/f")
    os.rename(b.m + "/c", b.m + "/d/c")
    for there in (True, False, True):
        same(numbers(b.m + "/d")["c"], os.stat(b.m + "/d/c").st_ino, "merged" if there else "of upper alone")
        (os.rmdir if there else os.mkdir)(b.l + "/c")
        b.changed("")


@case(options="metacopy=on,redirect_dir=on")
def listing_of_a_dir_of_upper_with_a_file_whose_data_is_gone(b):
    write(b.l + "/f", "low")
    b.mount()
    os.mkdir(b.m + "/d")
    os.chmod(b.m + "/f", 0o600)
    os.rename(b.m + "/f", b.m + "/d/f")
    os.unlink(b.l + "/f")
    b.changed("")
    same(ls(b.m + "/d"), ["f"])
    write(b.l + "/f", "low")
    b.changed("")
    same(ls(b.m + "/d"), ["f"])
    same(numbers(b.m + "/d")["f"], os.stat(b.m + "/d/f").st_ino)


def xwhiteouts_bench(b):
    if KERNEL < (6, 7):
        raise Skip("no xwhiteouts in overlayfs of this kernel")
    for l in b.lowers:
        os.mkdir(l + "/d")
    for name in ("gone", "here"):
        write(f"{b.l}/d/{name}")
    os.setxattr(b.l, "trusted.overlay.opaque", b"x")
    os.setxattr(b.l + "/d/gone", "trusted.overlay.whiteout", b"y")
    b.mount()
    held = b.open(b.m + "/d")
    same(fdls(held), ["gone", "here"])
    os.setxattr(b.l + "/d", "trusted.overlay.opaque", b"x")
    return held


@case(lowers=2)
def listing_of_a_held_dir_that_gets_xwhiteouts(b):
    held = xwhiteouts_bench(b)
    b.changed("")
    same(fdls(held), ["here"])


@case(lowers=2)
def listing_of_a_renamed_dir_that_gets_xwhiteouts(b):
    held = xwhiteouts_bench(b)
    for l in b.lowers:
        os.rename(l + "/d", l + "/e")
    b.changed("")
    same(ls(b.m + "/e"), ["here"])
    same(fdls(held), ["here"])


# the option


@case()
def option_default_is_off_and_not_shown(b):
    if MODE == "stock":
        raise Skip("is for patched kernels")
    b.mode = "default"
    b.mount()
    same([o for o in options_of(b.m) if o.startswith("lower_changes")], [])
    same(exists(b.m + "/f"), False)
    write(b.l + "/f", "")
    same(exists(b.m + "/f"), False, "off is as before")
    same(err_of(invalidate, b.m), errno.EOPNOTSUPP)
    same(err_of(lambda: reconfigure(b.m, incgen=True)), errno.EINVAL)


@case()
def option_wrong_values_are_rejected(b):
    if MODE == "stock":
        raise Skip("is for patched kernels")
    b.mode = "sometimes"
    same(err_of(b.mount), errno.EINVAL)
    b.mode, b.extra = MODE, "nfs_export=on,index=on"
    same(err_of(b.mount), errno.EINVAL)
    b.extra = ""
    b.mount()
    same(options_of(b.m)[-1].startswith("lower_changes="), True)

    def try_(**o):
        return err_of(lambda: reconfigure(b.m, **o))

    same(try_(lower_changes="sometimes"), errno.EINVAL)
    # Before 6.5 overlayfs ignores all options in remount, and goes on to do so for the others
    same(try_(index="on"), errno.EINVAL if KERNEL >= (6, 5) else 0)
    same([o for o in options_of(b.m) if o.startswith("index")], [])


@case(options="nfs_export=on,index=on")
def option_is_refused_where_nfs_export_is_on(b):
    """At mount as an option, see above; later too, and then nothing is changed."""
    if MODE == "stock":
        raise Skip("is for patched kernels")
    b.mode = "default"
    b.mount()
    before = options_of(b.m)
    same("nfs_export=on" in before, True)
    same(err_of(lambda: reconfigure(b.m, lower_changes=MODE)), errno.EINVAL)
    same(options_of(b.m), before)
    same(err_of(invalidate, b.m), errno.EOPNOTSUPP)
    reconfigure(b.m, lower_changes="off")


@case()
def option_reconfigured_between_all_modes(b):
    if MODE == "stock":
        raise Skip("is for patched kernels")
    os.mkdir(b.l + "/d")
    b.mode = "default"
    b.mount()
    write(b.m + "/d/up", "")
    held = b.open(b.m + "/d")
    os.chdir(b.m + "/d")
    n = 0
    modes = ["manual", "notify", "reval"]
    for mode in modes + ["off"] + modes[::-1] + ["notify", "manual", "reval", "notify", "off", "notify"]:
        reconfigure(b.m, lower_changes=mode)
        if mode == "off":
            continue
        n += 1
        b.mode = mode
        same(exists(f"f{n}"), False)
        fdls(held)
        write(f"{b.l}/d/f{n}", "")
        b.changed("d")
        same(exists(f"f{n}"), True, mode)
        same(len(fdls(held)), n + 1, mode)
        same(len(ls(b.m + "/d")), n + 1, mode)


@case(lowers=2, upper=False)
def option_reconfigured_without_upper(b):
    if MODE == "stock":
        raise Skip("is for patched kernels")
    b.mode = "default"
    b.mount()
    b.mode = MODE
    # Before 6.5 a remount that does not say "ro" asks for "rw"
    flags = {} if KERNEL >= (6, 5) else {"ro": True}
    reconfigure(b.m, lower_changes=MODE, **flags)
    same(exists(b.m + "/f"), False)
    write(b.lowers[1] + "/f")
    b.changed("")
    same(exists(b.m + "/f"), True)
    same(err_of(lambda: reconfigure(b.m, rw=True)), errno.EROFS)


@case()
def option_and_incgen_are_taken_both_or_not_at_all(b):
    if MODE == "stock":
        raise Skip("is for patched kernels")
    b.mount()
    same(err_of(lambda: reconfigure(b.m, lower_changes="off", incgen=True)), errno.EINVAL)
    same(exists(b.m + "/f"), False)
    write(b.l + "/f")
    b.changed("")
    same(exists(b.m + "/f"), True)


@case()
def option_that_was_off_for_a_while_knows_who_uses_directories(b):
    """Only what was in use before it was ever set may keep 256 lower stacks, and is not followed after that."""
    if MODE == "stock":
        raise Skip("is for patched kernels")
    b.mount()
    reconfigure(b.m, lower_changes="off")
    os.mkdir(b.m + "/d")
    os.chdir(b.m + "/d")
    reconfigure(b.m, lower_changes=MODE)
    for _ in range(300):
        os.mkdir(b.l + "/d")
        b.changed("")
        os.stat(b.m + "/d")
        os.rmdir(b.l + "/d")
        b.changed("")
        os.stat(b.m + "/d")
    os.mkdir(b.l + "/d")
    write(b.l + "/d/f")
    b.changed("")
    same(exists("f"), True)


@case()
def option_is_resolved_before_what_depends_on_nfs_export(b):
    if MODE == "stock":
        raise Skip("is for patched kernels")
    parameters = [f"/sys/module/overlay/parameters/{name}" for name in ("nfs_export", "metacopy")]
    before = [read(p) for p in parameters]
    try:
        for p in parameters:
            write(p, "Y")
        b.mount()
        # What is as the default is not shown
        same([o for o in options_of(b.m) if o.startswith(("metacopy", "nfs_export"))], ["nfs_export=off"])
    finally:
        for p, value in zip(parameters, before):
            write(p, value)


@case()
def incgen_verifies_everything(b):
    if MODE == "stock":
        raise Skip("is for patched kernels")
    b.mode = "manual"
    b.mount()
    same(exists(b.m + "/f"), False)
    write(b.l + "/f", "1")
    reconfigure(b.m, incgen=True)
    same(exists(b.m + "/f"), True)


@case()
def ioctl_wants_privilege_and_known_flags(b):
    if MODE == "stock":
        raise Skip("is for patched kernels")
    os.chmod(b.top, 0o755)
    b.mount()
    same(err_of(invalidate, b.m, 2), errno.EINVAL)
    same(err_of(invalidate, b.m, OVL_INVALIDATE_SUBTREE), 0)
    same(as_nobody(lambda: err_of(invalidate, b.m) == errno.EPERM), True)


@case()
def module_parameter_is_the_default(b):
    p = "/sys/module/overlay/parameters/lower_changes"
    if MODE == "stock":
        raise Skip("is for patched kernels")
    same(read(p), "off\n")
    same(err_of(write, p, "sometimes"), errno.EINVAL)
    write(p, MODE)
    try:
        same(read(p), MODE + "\n")
        b.mode = "default"
        b.mount()
        b.mode = MODE
        same(exists(b.m + "/f"), False)
        write(b.l + "/f", "1")
        b.changed("")
        same(exists(b.m + "/f"), True)
    finally:
        write(p, "off")


def run(name, func, bench):
    b = Bench(MODE, **bench)
    try:
        func(b)
        return "ok", None
    except Skip as e:
        return "skip", str(e)
    except (AssertionError, OSError) as e:
        line = traceback.extract_tb(e.__traceback__)
        line = [f.lineno for f in line if f.filename == __file__ and f.name not in ("run", "same")]
        return "not ok", f"{type(e).__name__} {e} (line {line[-1] if line else '?'})"
    finally:
        b.close()


def main():
    pattern = sys.argv[2] if len(sys.argv) > 2 else "*"
    counts = {"ok": 0, "not ok": 0, "skip": 0}
    os.umask(0o022)
    own_root()
    for name, func, bench in CASES:
        if not fnmatch.fnmatch(name, pattern):
            continue
        result, why = run(name, func, bench)
        counts[result] += 1
        print(f"{result} {name}" + (f": {why}" if why else ""), flush=True)
    print(f"# {MODE}: {counts['ok']} ok, {counts['not ok']} not ok, {counts['skip']} skipped")
    return 1 if counts["not ok"] else 0


if __name__ == "__main__":
    sys.exit(main())
