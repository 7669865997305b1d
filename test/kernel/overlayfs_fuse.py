# SPDX-License-Identifier: MIT
"""A FUSE filesystem that shows another directory, read only: a lower layer that changes without the kernel's knowledge."""
import errno
import os
import stat
import struct

from overlayfs_lib import mount

LOOKUP, FORGET, GETATTR, READLINK, OPEN, READ, STATFS, RELEASE = 1, 2, 3, 5, 14, 15, 17, 18
FLUSH, INIT, OPENDIR, READDIR, RELEASEDIR, INTERRUPT, DESTROY, BATCH_FORGET = 25, 26, 27, 28, 29, 36, 38, 42
NO_REPLY = (FORGET, BATCH_FORGET, INTERRUPT)
# Names that begin with this are looked up until the server is killed
STUCK = b"stuck"
# Files with such a name are there, but reading one takes as long
SILENT = "silent"
# While the shown directory has such a name in it, nothing can be looked up
BROKEN = ".broken"
# While it has this and a name, answers to lookups of the name are kept back, until RELEASE_HELD is looked up
HOLD = ".hold."
RELEASE_HELD = b"release"


class Server:
    def __init__(self, root):
        self.root = root
        self.paths = {1: root}
        self.lists = {}
        self.held = []

    def attr(self, st):
        node = 1 if st.st_ino == os.lstat(self.root).st_ino else st.st_ino + 16
        times = [st.st_atime_ns, st.st_mtime_ns, st.st_ctime_ns]
        return node, struct.pack(
            "=6Q10I", node, st.st_size, st.st_blocks, *(t // 10**9 for t in times), *(t % 10**9 for t in times),
            st.st_mode, st.st_nlink, st.st_uid, st.st_gid, st.st_rdev, 4096, 0)

    def answer(self, op, node, body):
        path = self.paths.get(node)
        if op == INIT:
            return struct.pack("=4I2H2I2H8I", 7, 31, 65536, 0, 8, 8, 65536, 1, 16, 0, *[0] * 8)
        if op == STATFS:
            return struct.pack("=5Q4I24x", 0, 0, 0, 0, 0, 4096, 255, 4096, 0)
        if op == LOOKUP:
            child = os.path.join(path, os.fsdecode(body[:-1]))
            if body.startswith(STUCK):
                # No answer, ever, and a mark for who waits for the question
                os.mkdir(child + ".asked")
                return None
            if os.path.exists(os.path.join(self.root, BROKEN)):
                raise OSError(errno.EIO, "")
            # No time of validity: every use is looked up
            found, attr = self.attr(os.lstat(child))
            self.paths[found] = child
            return struct.pack("=4Q2I", found, 0, 0, 0, 0, 0) + attr
        if op == GETATTR:
            return struct.pack("=Q2I", 0, 0, 0) + self.attr(os.lstat(path))[1]
        if op == READLINK:
            return os.fsencode(os.readlink(path))
        if op in (OPEN, OPENDIR):
            # As a server of remote files would: what is open stays open
            handle = os.open(path, os.O_RDONLY)
            if op == OPENDIR:
                self.lists[handle] = sorted(os.listdir(handle))
            return struct.pack("=Q2I", handle, 0, 0)
        if op in (READ, READDIR):
            handle, offset, size = struct.unpack_from("=QQI", body)
            if op == READ and os.path.basename(path).startswith(SILENT):
                os.mkdir(path + ".asked")
                return None
            if op == READ:
                return os.pread(handle, size, offset)
            if offset == 0:
                self.lists[handle] = sorted(os.listdir(handle))
            out = b""
            for i, name in enumerate(self.lists[handle][offset:], offset + 1):
                raw = os.fsencode(name)
                entry = struct.pack("=QQII", 16, i, len(raw), 0) + raw
                entry += b"\0" * (-len(entry) % 8)
                if len(out) + len(entry) > size:
                    break
                out += entry
            return out
        if op in (RELEASE, RELEASEDIR):
            os.close(struct.unpack_from("=Q", body)[0])
            return b""
        if op == FLUSH:
            return b""
        raise OSError(errno.ENOSYS, "")

    def holds(self, name):
        mark = os.path.join(self.root, HOLD + os.fsdecode(name))
        if not os.path.exists(mark):
            return False
        os.rename(mark, mark + ".asked")
        return True

    def serve(self, dev):
        while True:
            try:
                request = os.read(dev, 1 << 17)
            except OSError as e:
                if e.errno in (errno.EINTR, errno.EAGAIN, errno.ENOENT):
                    continue
                return
            _, op, unique, node = struct.unpack_from("=IIQQ", request)
            if op in NO_REPLY:
                continue
            if op == LOOKUP and request[40:-1] == RELEASE_HELD:
                while self.held:
                    os.write(dev, self.held.pop())
            code, data = 0, b""
            try:
                data = self.answer(op, node, request[40:])
                if data is None:
                    continue
                if op == LOOKUP and self.holds(request[40:-1]):
                    self.held.append(struct.pack("=IiQ", 16 + len(data), 0, unique) + data)
                    continue
            except (OSError, TypeError, KeyError) as e:
                code = e.errno if isinstance(e, OSError) else errno.ENOENT
            try:
                os.write(dev, struct.pack("=IiQ", 16 + len(data), -code, unique) + data)
            except OSError as e:
                if e.errno != errno.ENOENT:
                    return
            if op == DESTROY:
                return


def fuse_mount(root, target):
    """Mounts it and gives the server's process, that ends when it is unmounted."""
    dev = os.open("/dev/fuse", os.O_RDWR)
    mode = stat.S_IFMT(os.stat(root).st_mode)
    mount("fuse", target, "fuse", 0, f"fd={dev},rootmode={mode:o},user_id=0,group_id=0,allow_other,default_permissions")
    pid = os.fork()
    if pid == 0:
        try:
            Server(root).serve(dev)
        finally:
            os._exit(0)
    os.close(dev)
    return pid
