# SPDX-License-Identifier: MIT
"""Mounts, reconfigure and the invalidate ioctl of overlayfs, for tests that run inside a test kernel as root."""
import ctypes
import errno
import fcntl
import os
import struct
import tempfile

libc = ctypes.CDLL(None, use_errno=True)

MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 32, 4096, 16384, 1 << 18
MNT_DETACH = 2
CLONE_NEWNS = 0x20000
SYS_PIVOT_ROOT = 155
SYS_FSPICK, SYS_FSCONFIG, SYS_FSOPEN = 433, 431, 430
SYS_OPEN_TREE, SYS_MOVE_MOUNT, SYS_MOUNT_SETATTR = 428, 429, 442
FSCONFIG_SET_FLAG, FSCONFIG_SET_STRING, FSCONFIG_CMD_CREATE, FSCONFIG_CMD_RECONFIGURE = 0, 1, 6, 7
# include/uapi/linux/overlayfs.h
OVL_IOC_INVALIDATE = (1 << 30) | (16 << 16) | (ord("O") << 8) | 0xF0
OVL_INVALIDATE_SUBTREE = 1


def check(ret, what):
    if ret < 0:
        e = ctypes.get_errno()
        raise OSError(e, f"{what}: {os.strerror(e)}")
    return ret


def mount(source, target, fstype, flags=0, data=""):
    check(
        libc.mount(os.fsencode(source), os.fsencode(target), fstype.encode() if fstype else None, flags, os.fsencode(data)),
        f"mount {fstype} {data}",
    )


def umount(target, flags=MNT_DETACH):
    check(libc.umount2(os.fsencode(target), flags), f"umount {target}")


def own_root():
    """Where the root is on hostfs, which cannot be passed in RCU path walk: one on tmpfs, with what is in that root."""
    with open("/proc/self/mounts") as f:
        kinds = {line.split()[1]: line.split()[2] for line in f}
    if kinds["/"] != "hostfs":
        return
    where = os.getcwd()
    check(libc.unshare(CLONE_NEWNS), "unshare")
    mount("none", "/", None, MS_REC | MS_PRIVATE)
    root = tempfile.mkdtemp(prefix="root-")
    mount("root", root, "tmpfs", data="mode=755")
    os.mkdir(root + "/.old")
    for name in os.listdir("/"):
        path = "/" + name
        if os.path.islink(path):
            os.symlink(os.readlink(path), root + path)
        elif os.path.isdir(path):
            os.mkdir(root + path)
            mount(path, root + path, None, MS_BIND | MS_REC)
    check(libc.syscall(SYS_PIVOT_ROOT, os.fsencode(root), os.fsencode(root + "/.old")), "pivot_root")
    umount("/.old")
    os.chdir(where)


def reconfigure(target, **options):
    """New mount API: the only one in which overlayfs takes options at reconfigure."""
    fd = check(libc.syscall(SYS_FSPICK, -100, os.fsencode(target), 0), "fspick")
    try:
        for key, value in options.items():
            if value is True:
                r = libc.syscall(SYS_FSCONFIG, fd, FSCONFIG_SET_FLAG, key.encode(), None, 0)
            else:
                r = libc.syscall(SYS_FSCONFIG, fd, FSCONFIG_SET_STRING, key.encode(), value.encode(), 0)
            check(r, f"fsconfig {key}={value}")
        check(libc.syscall(SYS_FSCONFIG, fd, FSCONFIG_CMD_RECONFIGURE, None, None, 0), "reconfigure")
    finally:
        os.close(fd)


def idmapped_mount(source, target, inside, outside, count=65536):
    """A mount of source on target on which owner `inside` is seen as `outside`, and so on."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(writer)
        os._exit(1 if libc.unshare(0x10000000) or os.read(reader, 1) else 0)
    try:
        while os.readlink(f"/proc/{pid}/ns/user") == os.readlink("/proc/self/ns/user"):
            pass
        for name in ("uid_map", "gid_map"):
            write(f"/proc/{pid}/{name}", f"{inside} {outside} {count}")
        ns = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY)
    finally:
        os.close(reader)
        os.close(writer)
        os.waitpid(pid, 0)
    tree = -1
    try:
        tree = check(libc.syscall(SYS_OPEN_TREE, -100, os.fsencode(source), os.O_CLOEXEC | 1), "open_tree")
        attr = ctypes.create_string_buffer(struct.pack("=4Q", 0x100000, 0, 0, ns))
        check(libc.syscall(SYS_MOUNT_SETATTR, tree, b"", 0x1000, attr, 32), "mount_setattr")
        check(libc.syscall(SYS_MOVE_MOUNT, tree, b"", -100, os.fsencode(target), 4), "move_mount")
    finally:
        os.close(ns)
        if tree >= 0:
            os.close(tree)


def invalidate(directory, flags=0):
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.ioctl(fd, OVL_IOC_INVALIDATE, struct.pack("=QQ", flags, 0))
    finally:
        os.close(fd)


def options_of(target):
    with open("/proc/self/mountinfo") as f:
        for line in f:
            fields = line.split()
            if fields[4] == target:
                return line.rstrip("\n").split(" - ")[1].split(" ", 2)[2].split(",")
    return None


def write(path, text=""):
    with open(path, "wb") as f:
        f.write(text if isinstance(text, bytes) else text.encode())


def read_bytes(path):
    """In four system calls: open() of Python makes seven, and they are what counts under user-mode Linux."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return b"".join(iter(lambda: os.read(fd, 1 << 20), b""))
    finally:
        os.close(fd)


def read(path):
    return read_bytes(path).decode()


def replace(path, text):
    """As editors and git do: a new file is moved over the old one."""
    tmp = path + (b".new" if isinstance(path, bytes) else ".new")
    write(tmp, text)
    os.rename(tmp, path)


def exists(path):
    try:
        os.lstat(path)
        return True
    except FileNotFoundError:
        return False


def whiteout(path):
    os.mknod(path, 0o20000, 0)


class Listing:
    """Of an open directory, in pieces: the names found so far, with their numbers."""

    def __init__(self, fd):
        self.fd = fd
        self.found = {}

    def more(self, size):
        buf = ctypes.create_string_buffer(size)
        got = check(libc.getdents64(self.fd, buf, size), "getdents64")
        at = 0
        while at < got:
            ino, _, length, _ = struct.unpack_from("=QqHB", buf.raw, at)
            self.found[os.fsdecode(buf.raw[at + 19 : at + length].split(b"\0", 1)[0])] = ino
            at += length
        return got

    def rest(self):
        while self.more(4096):
            pass


class Bench:
    """Layers on tmpfs and an overlay over them; everything goes away at close()."""

    def __init__(self, mode, lowers=1, upper=True, options="", fstype="tmpfs"):
        self.mode = mode
        self.top = tempfile.mkdtemp(prefix="ovl-")
        mount("layers", self.top, fstype)
        self.mounts = [self.top]
        self.lowers = [f"{self.top}/l{i}" for i in range(1, lowers + 1)]
        self.l = self.lowers[0]
        self.u = f"{self.top}/u" if upper else None
        self.w = f"{self.top}/w"
        self.m = f"{self.top}/m"
        self.extra = options
        self.fds = []
        for d in self.lowers + ([self.u] if upper else []) + [self.w, self.m]:
            os.mkdir(d)

    def data(self, workdir=None, mode=None):
        opts = ["lowerdir=" + ":".join(self.lowers)]
        if self.u:
            opts += [f"upperdir={self.u}", f"workdir={workdir or self.w}"]
        if self.extra:
            opts.append(self.extra)
        mode = mode or self.mode
        if mode not in ("stock", "default"):
            opts.append(f"lower_changes={mode}")
        return ",".join(opts)

    def mount(self):
        mount("overlay", self.m, "overlay", 0, self.data())
        self.mounts.append(self.m)
        return self

    def changed(self, *dirs):
        """What the daemon does for each directory with a change, in mode manual."""
        if self.mode != "manual":
            return
        for d in dirs:
            invalidate(f"{self.m}/{d}" if d else self.m)

    def open(self, path, flags=os.O_RDONLY):
        fd = os.open(path, flags)
        self.fds.append(fd)
        return fd

    def close(self):
        os.chdir("/")
        for fd in self.fds:
            try:
                os.close(fd)
            except OSError:
                pass
        for m in reversed(self.mounts):
            try:
                umount(m)
            except OSError as e:
                # Detached by the kernel under test: its case has failed already
                if e.errno not in (errno.EINVAL, errno.ENOENT, errno.ESTALE):
                    raise
        os.rmdir(self.top)


def err_of(func, *args):
    try:
        func(*args)
        return 0
    except OSError as e:
        return e.errno


def name_of(code):
    return errno.errorcode.get(code, str(code))
