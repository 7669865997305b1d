# SPDX-License-Identifier: MIT
"""Runs `lowerwatch kernel boot` on a terminal of its own and says what is left of both, as JSON.

    terminal.py key|signal|FILE PROGRAM [ARGUMENT]...

The guest's command prints "up". Then: `key` types Ctrl-C, `signal` sends SIGINT to the program alone, FILE is made, which
tells the command to end.
The caller starts this in a session of its own.
"""
import fcntl
import json
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time

how, argv = sys.argv[1], sys.argv[2:]
master, terminal = pty.openpty()
# This stays the leader of the session, as a shell does: when a leader ends, the kernel resets the terminal.
fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
# A handler, unlike SIG_IGN, is not what the program begins with.
signal.signal(signal.SIGINT, lambda *_: None)

# Not what a terminal begins with: whoever resets it is seen.
settings = termios.tcgetattr(terminal)
settings[0] |= termios.IXANY
settings[3] &= ~termios.ECHOE
settings[6][termios.VERASE] = b"\x08"
termios.tcsetattr(terminal, termios.TCSANOW, settings)


def state():
    return [termios.tcgetattr(terminal), os.tcgetpgrp(terminal)]


def sessions():
    """All processes, by session, with their command lines."""
    found = {}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{entry}/cmdline", "rb") as file:
                words = file.read()
            with open(f"/proc/{entry}/stat", "rb") as file:
                session = int(file.read().rsplit(b")", 1)[1].split()[3])
        except (FileNotFoundError, ProcessLookupError):
            continue
        found.setdefault(session, {})[int(entry)] = words
    return found


def left_of(pidfds):
    """How many do not end: what was killed is a moment on its way. Ends them."""
    deadline = time.monotonic() + 10
    left = [pidfd for pidfd in pidfds if not select.select([pidfd], [], [], max(0, deadline - time.monotonic()))[0]]
    for pidfd in left:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    return len(left)


def watch(pids):
    for pid in pids:
        try:
            yield os.pidfd_open(pid)
        except ProcessLookupError:
            pass


before = state()
program = subprocess.Popen(argv, stdin=terminal, stdout=terminal, stderr=terminal)
said = b""
# A terminal that was made raw has no carriage return.
while b"up\n" not in said.replace(b"\r", b""):
    if not select.select([master], [], [], 30)[0]:
        sys.exit(f"the command is not up: {said!r}")
    said += os.read(master, 1 << 16)
# A kernel has a session to itself, and its first process the directory of this boot in its command line.
boot = b"/boot/%d-" % program.pid
kernel = [number for number, group in sessions().items() if any(boot in words for words in group.values())]
processes = list(watch(pid for number in kernel for pid in sessions().get(number, ())))
during = state()
if how == "key":
    os.write(master, b"\x03")
elif how == "signal":
    program.send_signal(signal.SIGINT)
else:
    open(how, "x").close()
status = program.wait(20)
left = left_of(processes) + left_of(watch(pid for number in kernel for pid in sessions().get(number, ())))
json.dump(
    {
        "pid": program.pid,
        "status": status,
        "during": during == before,
        "after": state() == before,
        "processes": len(processes),
        "left": left,
    },
    sys.stdout,
)
