# SPDX-License-Identifier: MIT
"""First process of a guest: runs the steps of /steps.json one after the other and tells the result line of each.

A step is {"name", "argv"}, with more variables in "env". Lines on the first serial line are JSON: {"name", "status", "output"} for each step, then
{"messages"}: the kernel's, of which the caller knows what alarms. Then the machine goes off.
"""
import ctypes
import json
import os
import subprocess
import sys
import traceback
import tty

libc = ctypes.CDLL(None, use_errno=True)
SYSLOG_ACTION_READ_ALL, SYSLOG_ACTION_SIZE_BUFFER, RB_POWER_OFF = 3, 10, 0x4321FEDC
MS_BIND = 4096


def mount(kind, target, source=None, flags=0):
    os.makedirs(target, exist_ok=True)
    if libc.mount((source or kind).encode(), target.encode(), kind.encode(), flags, None):
        raise OSError(ctypes.get_errno(), f"mount {target}")


def mount_below(kind, target):
    """Keeps the directories that the first root has there."""
    fd = os.open(target, os.O_RDONLY | os.O_DIRECTORY)
    mount(kind, target)
    for name in os.listdir(fd):
        mount("none", f"{target}/{name}", f"/proc/self/fd/{fd}/{name}", MS_BIND)
    os.close(fd)


def kernel_messages():
    buffer = ctypes.create_string_buffer(libc.klogctl(SYSLOG_ACTION_SIZE_BUFFER, None, 0))
    length = libc.klogctl(SYSLOG_ACTION_READ_ALL, buffer, len(buffer))
    return buffer.raw[:length].decode("latin1")


def run(step):
    try:
        done = subprocess.run(step["argv"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, env={**os.environ, **step.get("env", {})})
        status, output = done.returncode, done.stdout.decode("latin1")
    except OSError as e:
        status, output = 127, str(e)
    return {"name": step["name"], "status": status, "output": output}


def main():
    for kind, target in (("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev"), ("tmpfs", "/dev/shm"),
                         ("tmpfs", "/run"), ("cgroup2", "/sys/fs/cgroup")):
        mount(kind, target)
    mount_below("tmpfs", "/tmp")
    # A first root has the mode of a directory for temporary files, 1777; one on a disk has not.
    os.chmod("/", 0o755)
    os.environ.update(PATH="/usr/sbin:/usr/bin:/sbin:/bin", TMPDIR="/tmp", HOME="/tmp", LC_ALL="C.UTF-8")
    line = os.open("/dev/ttyS0", os.O_WRONLY | os.O_NOCTTY)
    tty.setraw(line)

    def tell(what):
        data = json.dumps(what).encode() + b"\n"
        while data:
            data = data[os.write(line, data):]

    with open("/steps.json") as f:
        steps = json.load(f)
    for step in steps:
        tell(run(step))
    tell({"messages": kernel_messages()})
    # Closing the line waits until the other end has it.
    os.close(line)


try:
    main()
except BaseException:
    traceback.print_exc(file=sys.stderr)
finally:
    libc.reboot(RB_POWER_OFF)
