#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Random changes in two lower layers and through the overlay: the live overlay must show what a fresh mount shows.

Usage: overlayfs_random.py MODE SEED OPERATIONS [OPTIONS]
The same seed gives the same operations. At every quiet moment the live overlay is compared with a read-only mount of
the same layers that was never looked at before: names, types, modes, owners, sizes, contents, links, user xattrs. With
index=on, which shows lower names of what was copied up by the index, that has copies of the upper layer and the index.
Exit 1 with the operations since the last quiet moment, if they differ or if a path gave ESTALE. What differs just as
much when the overlay is mounted anew is not about following changes, and is told apart.
"""
import contextlib
import ctypes
import errno
import os
import random
import stat
import sys
import time

from overlayfs_lib import *

NAMES = ["a", "b", "c", "d"]
HELD = 8
EVERY = 20
METACOPY = "metacopy=on" in " ".join(sys.argv[4:])


def entry(path, depth):
    st = os.lstat(path)
    kind = stat.S_IFMT(st.st_mode)
    out = [kind, stat.S_IMODE(st.st_mode), st.st_uid, st.st_gid]
    if stat.S_ISREG(kind):
        out += [st.st_size, read_bytes(path)]
    elif stat.S_ISLNK(kind):
        out += [os.readlink(path)]
    if not stat.S_ISLNK(kind):
        out += [[(x, os.getxattr(path, x)) for x in sorted(os.listxattr(path)) if x.startswith("user.")]]
    return out


def snapshot(root, path="", depth=0, out=None):
    """Path -> what is there. A name that is listed but not there is left out: stock lists whiteouts of pure dirs."""
    out = {} if out is None else out
    full = root + path
    try:
        e = entry(full, depth)
    except OSError as err:
        if err.errno != errno.ENOENT:
            out[path] = errno.errorcode[err.errno]
        return out
    out[path] = e
    if stat.S_ISDIR(e[0]):
        try:
            names = sorted(os.listdir(full))
        except OSError as err:
            # One metacopy file without data fails all of a listing that is not cached
            without_data = METACOPY and err.errno in (errno.EIO, errno.ESTALE)
            names = NAMES if without_data else []
            if not without_data:
                out[path + "/"] = errno.errorcode[err.errno]
        for name in names:
            snapshot(root, path + "/" + name, depth + 1, out)
    # Names that may be cached as absent, or be hidden from the listing
    if stat.S_ISDIR(e[0]) and depth < 3:
        for name in NAMES:
            p = path + "/" + name
            if p not in out:
                try:
                    out[p] = ["unlisted"] + entry(root + p, depth)
                except FileNotFoundError:
                    pass
                except OSError as err:
                    out[p] = "unlisted " + errno.errorcode[err.errno]
    return out


def copy(src, dst, seen):
    """All of a tree that overlayfs looks at. Hard links are kept: seen is what was copied, for more than one tree."""
    st = os.lstat(src)
    if (st.st_dev, st.st_ino) in seen:
        os.link(seen[st.st_dev, st.st_ino], dst, follow_symlinks=False)
        return
    if stat.S_ISDIR(st.st_mode):
        os.mkdir(dst)
        for name in os.listdir(src):
            copy(f"{src}/{name}", f"{dst}/{name}", seen)
    else:
        seen[st.st_dev, st.st_ino] = dst
        if stat.S_ISLNK(st.st_mode):
            os.symlink(os.readlink(src), dst)
        elif stat.S_ISREG(st.st_mode):
            with open(src, "rb") as f:
                write(dst, f.read())
            # Metacopy files have no data
            os.truncate(dst, st.st_size)
        else:
            os.mknod(dst, st.st_mode, st.st_rdev)
    os.lchown(dst, st.st_uid, st.st_gid)
    if not stat.S_ISLNK(st.st_mode):
        os.chmod(dst, stat.S_IMODE(st.st_mode))
    for x in os.listxattr(src, follow_symlinks=False):
        # Says which directory is the upper one of an index
        if not x.endswith(".overlay.upper"):
            os.setxattr(dst, x, os.getxattr(src, x, follow_symlinks=False), follow_symlinks=False)


class Run:
    def __init__(self, mode, seed, options):
        self.rnd = random.Random(seed)
        self.b = Bench(mode, lowers=2, options=options)
        self.b.mount()
        self.options = options
        self.held = []
        self.log = []
        self.serial = 0
        self.stale = 0
        self.apart = 0
        self.fresh_dir = self.b.top + "/fresh"
        self.copies = self.b.top + "/copies"
        os.mkdir(self.fresh_dir)

    def path(self, most=3):
        return "/".join(self.rnd.choice(NAMES) for _ in range(self.rnd.randint(1, most)))

    def text(self):
        self.serial += 1
        return f"{self.serial}" * self.rnd.randint(1, 3)

    # operations on a tree that is a lower layer or the overlay itself

    def op_create(self, root):
        with open(f"{root}/{self.path()}", "w") as f:
            f.write(self.text())

    def op_append(self, root):
        with open(f"{root}/{self.path()}", "r+") as f:
            f.seek(0, 2)
            f.write(self.text())

    def op_replace(self, root):
        p = f"{root}/{self.path()}"
        with open(p + ".new", "w") as f:
            f.write(self.text())
        try:
            os.rename(p + ".new", p)
        except OSError:
            os.unlink(p + ".new")
            raise

    def op_mkdir(self, root):
        os.mkdir(f"{root}/{self.path()}")

    def op_makedirs(self, root):
        p = self.path()
        os.makedirs(f"{root}/{p}", exist_ok=True)
        with open(f"{root}/{p}/{self.rnd.choice(NAMES)}", "w") as f:
            f.write(self.text())

    def op_unlink(self, root):
        os.unlink(f"{root}/{self.path()}")

    def op_rmdir(self, root):
        os.rmdir(f"{root}/{self.path()}")

    def op_rmtree(self, root):
        self.rmtree(f"{root}/{self.path()}")

    def rmtree(self, p):
        st = os.lstat(p)
        if not stat.S_ISDIR(st.st_mode):
            os.unlink(p)
            return
        for n in sorted(os.listdir(p)):
            self.rmtree(p + "/" + n)
        os.rmdir(p)

    def op_rename(self, root):
        os.rename(f"{root}/{self.path()}", f"{root}/{self.path()}")

    def op_exchange(self, root):
        a, b = os.fsencode(f"{root}/{self.path()}"), os.fsencode(f"{root}/{self.path()}")
        if libc.renameat2(-100, a, -100, b, 2) < 0:
            e = ctypes.get_errno()
            raise OSError(e, os.strerror(e), a, None, b)

    def op_symlink(self, root):
        os.symlink(self.text(), f"{root}/{self.path()}")

    def op_link(self, root):
        os.link(f"{root}/{self.path()}", f"{root}/{self.path()}")

    def op_chmod(self, root):
        p = f"{root}/{self.path()}"
        if not os.path.islink(p):
            os.chmod(p, self.rnd.choice([0o700, 0o755, 0o644, 0o600]))

    def op_chown(self, root):
        os.lchown(f"{root}/{self.path()}", self.rnd.choice([0, 1000]), self.rnd.choice([0, 1000]))

    def op_xattr(self, root):
        os.setxattr(f"{root}/{self.path()}", "user.x", self.text().encode(), follow_symlinks=False)

    # only in lower layers

    def op_whiteout(self, root):
        whiteout(f"{root}/{self.path()}")

    def op_opaque(self, root):
        p = f"{root}/{self.path()}"
        if os.path.isdir(p) and not os.path.islink(p):
            os.setxattr(p, "trusted.overlay.opaque", b"y")

    def op_not_opaque(self, root):
        os.removexattr(f"{root}/{self.path()}", "trusted.overlay.opaque", follow_symlinks=False)

    # only through the overlay

    def op_look(self, root):
        p = f"{root}/{self.path()}"
        os.lstat(p)

    def op_list(self, root):
        os.listdir(f"{root}/{self.path(2)}")

    def op_hold(self, root):
        p = self.rnd.choice(["", "/" + self.path()])
        fd = os.open(root + p, os.O_RDONLY)
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            os.listdir(fd)
        self.held.append(fd)
        if len(self.held) > HELD:
            os.close(self.held.pop(self.rnd.randrange(HELD)))

    def op_chdir(self, root):
        os.chdir(f"{root}/{self.path(2)}")

    def op_use_held(self, root):
        """By a held directory: no path leads there, so errors are its own business."""
        fd = self.rnd.choice(self.held) if self.held else None
        if fd is None:
            return
        try:
            if stat.S_ISDIR(os.fstat(fd).st_mode):
                os.lseek(fd, 0, 0)
                os.listdir(fd)
                os.stat(self.rnd.choice(NAMES), dir_fd=fd, follow_symlinks=False)
            else:
                os.fchmod(fd, 0o640)
        except OSError:
            pass

    def op_cwd(self, root):
        try:
            os.lstat(self.rnd.choice(NAMES))
            os.listdir(".")
        except OSError:
            pass

    COMMON = ["create", "create", "append", "replace", "mkdir", "makedirs", "unlink", "rmdir", "rmtree", "rename",
              "rename", "exchange", "symlink", "link", "chmod", "chown", "xattr"]
    LOWER = COMMON + ["whiteout", "opaque", "not_opaque"]
    OVER = COMMON + ["look"] * 12 + ["list"] * 6 + ["hold", "hold", "chdir", "use_held", "use_held", "cwd", "cwd"]

    def step(self):
        over = self.rnd.random() < 0.55
        root = self.b.m if over else self.rnd.choice(self.b.lowers)
        name = self.rnd.choice(self.OVER if over else self.LOWER)
        state = self.rnd.getstate()
        result = "ok"
        try:
            getattr(self, "op_" + name)(root)
        except OSError as e:
            result = errno.errorcode.get(e.errno, str(e.errno)) + f" {e.filename or ''} {e.filename2 or ''}"
            if over and e.errno == errno.ESTALE and not self.stale_at_once(e):
                self.stale += 1
                result += " <-- ESTALE by path"
        self.log.append(f"{os.path.basename(root)} {name}: {result}")
        if self.b.mode == "manual" and not over:
            invalidate(self.b.m, OVL_INVALIDATE_SUBTREE)

    def stale_at_once(self, e):
        """Does a new mount say so too? index=on verifies the origin of metacopy files, and says ESTALE if that was replaced."""
        if "index=on" not in self.options:
            return False
        with self.fresh():
            for path in (e.filename, e.filename2):
                path = os.fsdecode(path or "")
                if path.startswith(self.b.m) and err_of(os.lstat, self.fresh_dir + path[len(self.b.m):]) == errno.ESTALE:
                    return True
        return False

    def differences(self):
        live = snapshot(self.b.m)
        with self.fresh():
            fresh = snapshot(self.fresh_dir)
        return [(p, live.get(p), fresh.get(p)) for p in sorted(set(live) | set(fresh)) if live.get(p) != fresh.get(p)]

    @contextlib.contextmanager
    def fresh(self):
        indexed = "index=on" in self.options
        # Off gives ESTALE for a directory of the lower that has two names, one of them from a redirect
        data = self.b.data(mode="stock" if self.b.mode == "stock" else "reval" if indexed else "off")
        if indexed:
            seen = {}
            os.makedirs(self.copies + "/w")
            copy(self.b.u, self.copies + "/u", seen)
            copy(self.b.w + "/index", self.copies + "/w/index", seen)
            data = data.replace(f"upperdir={self.b.u},workdir={self.b.w}",
                                f"upperdir={self.copies}/u,workdir={self.copies}/w")
        else:
            data = data.replace(f"lowerdir={self.b.l}:", f"lowerdir={self.b.u}:{self.b.l}:")
            data = data.replace(f",upperdir={self.b.u},workdir={self.b.w}", "")
        mount("fresh", self.fresh_dir, "overlay", 1, data)
        try:
            yield
        finally:
            umount(self.fresh_dir, 0)
            if os.path.exists(self.copies):
                self.rmtree(self.copies)

    def rest(self):
        """What did not change for some ticks of the clock, and is looked at then, is not looked up again with reval."""
        if self.b.mode == "reval":
            time.sleep(0.03)
            snapshot(self.b.m)

    def quiet(self):
        diff = self.differences()
        if not diff and not self.stale:
            self.log.clear()
            self.rest()
            return True
        again = []
        for p, _, _ in diff if os.environ.get("DUMP") else []:
            for layer in [self.b.u] + self.b.lowers:
                try:
                    st = os.lstat(layer + p)
                    xattrs = {x: os.getxattr(layer + p, x, follow_symlinks=False)
                              for x in os.listxattr(layer + p, follow_symlinks=False)}
                    print(f"{os.path.basename(layer)}{p}: {stat.filemode(st.st_mode)} {st.st_rdev} {st.st_size} "
                          f"nlink {st.st_nlink} ino {st.st_ino} {xattrs}")
                except OSError as e:
                    print(f"{os.path.basename(layer)}{p}: {errno.errorcode[e.errno]}")
        if diff:
            # What is still different with nothing cached is no matter of following changes: told apart
            os.chdir("/")
            while self.held:
                os.close(self.held.pop())
            umount(self.b.m)
            mount("overlay", self.b.m, "overlay", 0, self.b.data())
            again = self.differences()
            if again == diff and not self.stale:
                self.apart += 1
                print("not a matter of caches:", *(f"{p}: {live} / {fresh}" for p, live, fresh in diff))
                self.log.clear()
                return True
        print("\n".join(self.log[-EVERY * 2:]))
        for p, live, fresh in diff:
            print(f"DIFFERS {p}\n  live  {live}\n  fresh {fresh}")
        print(f"{len(diff)} differences, {len(again)} after mounting it again, {self.stale} times ESTALE by path")
        return False

    def close(self):
        os.chdir("/")
        for fd in self.held:
            os.close(fd)
        self.b.close()


def main():
    mode, seed, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    options = sys.argv[4] if len(sys.argv) > 4 else ""
    os.umask(0o022)
    own_root()
    run = Run(mode, seed, options)
    good = True
    n = 0
    try:
        for n in range(1, count + 1):
            run.step()
            if n % EVERY == 0 and not run.quiet():
                good = False
                break
    finally:
        run.close()
    print(f"# {mode} seed {seed} {options}: {n} operations, {'no difference' if good else 'DIFFERENT'}, "
          f"{run.apart} told apart")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
