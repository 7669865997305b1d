#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Lower layers changed by some processes while others use the overlay; afterwards it must show what a fresh mount shows.

Usage: overlayfs_races.py MODE SECONDS [OPTIONS [fail]]
Errors of single operations are expected here, hangs and kernel messages are not: the caller looks at dmesg.
MODE switch changes the mode all the time. With fail, one allocation in a hundred fails, as long as the races last: in a
kernel with failslab.
"""
import contextlib
import errno
import faulthandler
import os
import random
import signal
import sys
import time

from overlayfs_lib import *
from overlayfs_random import Run, snapshot

# Seconds after the end in which a process must come back: the last operation of some is to walk through all of the overlay
LATE = 60

LOWER = ["create", "replace", "mkdir", "makedirs", "unlink", "rmdir", "rmtree", "rename", "rename", "exchange", "chmod",
         "symlink", "link", "whiteout", "opaque", "not_opaque", "xattr"]
OVER = ["create", "append", "replace", "mkdir", "makedirs", "unlink", "rmdir", "rmtree", "rename", "exchange", "chmod",
        "link", "look", "look", "look", "list", "list", "hold", "chdir", "use_held", "cwd", "mounts", "overlays", "walk"]


FAILSLAB = "/sys/kernel/debug/failslab"


@contextlib.contextmanager
def failing_allocations():
    """Of processes that ask for it. Without messages, of which there would be too many."""
    if not os.path.isdir(FAILSLAB):
        mount("debugfs", "/sys/kernel/debug", "debugfs")
    settings = {"task-filter": "Y", "ignore-gfp-wait": "N", "verbose": "0", "probability": "1", "times": "-1"}
    for name, value in settings.items():
        write(f"{FAILSLAB}/{name}", value)
    try:
        yield
    finally:
        write(f"{FAILSLAB}/probability", "0")


class Race(Run):
    def op_mounts(self, root):
        p = f"{root}/{self.path(2)}"
        mount("inner", p, "tmpfs")
        umount(p)

    def op_overlays(self, root):
        """Another one over the same layers comes and goes: its watches with it. Waits for RCU, so not often."""
        if self.rnd.random() < 0.95:
            return self.op_look(root)
        p = f"{self.b.top}/overlay.{os.getpid()}"
        os.makedirs(p, exist_ok=True)
        upper, self.b.u = self.b.u, None
        try:
            mount("overlay", p, "overlay", 1, self.b.data())
        finally:
            self.b.u = upper
        try:
            for name in os.listdir(p):
                err_of(os.lstat, f"{p}/{name}")
        finally:
            umount(p, 0)

    def op_walk(self, root):
        snapshot(root)


def mounts_below(root):
    with open("/proc/self/mountinfo", "rb") as f:
        points = [os.fsdecode(line.split()[4].decode("unicode_escape").encode("latin1")) for line in f]
    return [p for p in reversed(points) if p.startswith(root + "/")]


@contextlib.contextmanager
def failing(fail):
    if not fail:
        yield
        return
    fd = os.open("/proc/self/make-it-fail", os.O_WRONLY)
    os.pwrite(fd, b"1", 0)
    try:
        yield
    finally:
        os.pwrite(fd, b"0", 0)
        os.close(fd)


def child(run, seed, names, roots, until):
    """How many operations it made, and how many had no memory."""
    run.rnd = random.Random(seed)
    counts = failed = 0
    while time.monotonic() < until:
        try:
            getattr(run, "op_" + run.rnd.choice(names))(run.rnd.choice(roots))
        except OSError as e:
            failed += e.errno == errno.ENOMEM
        except MemoryError:
            failed += 1
        except RecursionError:
            pass
        counts += 1
        run.log.clear()
        if counts % 50 == 0 and run.b.mode == "manual" and roots != [run.b.m]:
            while err_of(invalidate, run.b.m, OVL_INVALIDATE_SUBTREE) == errno.ENOMEM:
                failed += 1
    return counts, failed


def times(pid):
    """Time in the program, time in the kernel, and times it was given a processor: what grows tells waiting from turning."""
    try:
        with open(f"/proc/{pid}/stat") as f:
            stat = f.read().rsplit(")", 1)[1].split()
        with open(f"/proc/{pid}/status") as f:
            switches = [line.split()[1] for line in f if "ctxt_switches" in line]
        return f"state {stat[0]}, user {stat[11]}, system {stat[12]}, processor {stat[36]}, switches {'+'.join(switches)}"
    except OSError as e:
        return e.strerror


def where(pids):
    """Where processes that hang are: in the kernel, and, if they take signals there, in the program."""
    for turn in range(3):
        for pid in pids:
            print(f"{pid}: {times(pid)}", flush=True)
        time.sleep(1)
    for pid in pids:
        for name in ("syscall", "stack"):
            try:
                with open(f"/proc/{pid}/{name}") as f:
                    print(f"{pid} {name}: {f.read().strip()}", flush=True)
            except OSError as e:
                print(f"{pid} {name}: {e.strerror}", flush=True)
    for pid in pids:
        os.kill(pid, signal.SIGUSR1)
    time.sleep(2)
    for pid in pids:
        print(f"{pid}: {times(pid)}", flush=True)


def switcher(run, until):
    rnd = random.Random(99)
    while time.monotonic() < until:
        try:
            reconfigure(run.b.m, lower_changes=rnd.choice(["off", "manual", "notify", "reval"]))
        except OSError as e:
            if e.errno not in (errno.EBUSY, errno.ENOMEM):
                raise
        time.sleep(0.01)


def race(run, jobs, until, switch, fail):
    """How many processes came to a bad end; None when one hangs."""
    pids = []
    for i, (names, roots) in enumerate(jobs):
        pid = os.fork()
        if pid == 0:
            try:
                with failing(fail):
                    counts, failed = child(run, 100 + i, names, roots, until)
                print(f"# process {i}: {counts} operations, {failed} without memory", flush=True)
                os._exit(0 if failed or not fail else 1)
            except BaseException as e:
                print(f"process {i}: {e!r}", flush=True)
                os._exit(1)
        pids.append(pid)
    if switch:
        with failing(fail):
            switcher(run, until)
        reconfigure(run.b.m, lower_changes="notify")
    bad = 0
    for pid in pids:
        while True:
            got, status = os.waitpid(pid, os.WNOHANG)
            if got:
                bad += status != 0
                break
            if time.monotonic() > until + LATE:
                left = pids[pids.index(pid):]
                print(f"process {pid} hangs, of {pids}")
                where(left)
                for p in left:
                    os.kill(p, signal.SIGKILL)
                return None
            time.sleep(0.05)
    return bad


def main():
    mode, seconds = sys.argv[1], float(sys.argv[2])
    options = sys.argv[3] if len(sys.argv) > 3 else ""
    fail = sys.argv[4:] == ["fail"]
    os.umask(0o022)
    own_root()
    faulthandler.register(signal.SIGUSR1)
    switch = mode == "switch"
    run = Race("notify" if switch else mode, 1, options)
    until = time.monotonic() + seconds
    jobs = [(LOWER, run.b.lowers), (LOWER, run.b.lowers), (OVER, [run.b.m]), (OVER, [run.b.m]), (OVER, [run.b.m])]
    with failing_allocations() if fail else contextlib.nullcontext():
        bad = race(run, jobs, until, switch, fail)
    if bad is None:
        return 1
    if run.b.mode == "manual":
        invalidate(run.b.m, OVL_INVALIDATE_SUBTREE)
    run.held = []
    # A directory that moved took along what was mounted in it: out of reach of the umount that belonged to it
    for target in mounts_below(run.b.m):
        umount(target)
    good = run.quiet() and not bad and not run.apart
    run.close()
    print(f"# races {mode} {options} {seconds} s: {'no difference' if good else 'DIFFERENT'}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
