// SPDX-License-Identifier: MIT
// From a directory handle to its path below a layer's root, verified.
#include <sys/vfs.h>

#include <cstdio>
#include <cstring>

#include "watch/decode.h"
#include "watch/handles.h"
#include "watch/kernel.h"

namespace lowerwatch {

namespace {

union HandleBuffer {
  struct file_handle handle;
  char bytes[sizeof(struct file_handle) + MAX_HANDLE_SZ];
};

int ReadLink(int fd, std::string& target) {
  char link[32];
  char buffer[4096];
  snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, buffer, sizeof(buffer));
  if (length < 0) return errno;
  if (length == sizeof(buffer)) return ENAMETOOLONG;
  target.assign(buffer, length);
  return 0;
}

// `path` made relative to `root`, both as the kernel prints them; false when it is not below.
bool StripRoot(const std::string& root, const std::string& path, std::string& relative) {
  if (path == root) {
    relative.clear();
    return true;
  }
  size_t length = root == "/" ? 0 : root.size();
  if (path.size() <= length + 1 || path.compare(0, length, root, 0, length) != 0 || path[length] != '/') return false;
  relative = path.substr(length + 1);
  return true;
}

bool EndsWith(const std::string& text, std::string_view end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

}  // namespace

int KeyOf(int fd, bool decodable, std::string& key) {
  HandleBuffer buffer;
  buffer.handle.handle_bytes = MAX_HANDLE_SZ;
  int mountId = 0;
  // fanotify reports handles as AT_HANDLE_FID gives them; before 6.5 there was only the other kind.
  int failed = decodable ? -1 : name_to_handle_at(fd, "", &buffer.handle, &mountId, AT_EMPTY_PATH | AT_HANDLE_FID);
  if (failed != 0 && (decodable || errno == EINVAL)) {
    buffer.handle.handle_bytes = MAX_HANDLE_SZ;
    failed = name_to_handle_at(fd, "", &buffer.handle, &mountId, AT_EMPTY_PATH);
  }
  if (failed != 0) return errno;
  struct statfs system;
  if (fstatfs(fd, &system) != 0) return errno;
  key.assign(reinterpret_cast<const char*>(&system.f_fsid), sizeof(system.f_fsid));
  key.append(buffer.bytes, sizeof(struct file_handle) + buffer.handle.handle_bytes);
  return 0;
}

int OpenKey(int mount, std::string_view key, int flags) {
  constexpr size_t fsid = 8;
  if (key.size() < keyHeader || key.size() - keyHeader > MAX_HANDLE_SZ) return -EINVAL;
  HandleBuffer buffer;
  memcpy(buffer.bytes, key.data() + fsid, key.size() - fsid);
  int fd = open_by_handle_at(mount, &buffer.handle, flags | O_CLOEXEC);
  return fd >= 0 ? fd : -errno;
}

int LocateBelow(const Layer& layer, std::string_view key, std::string& path) {
  int fd = OpenKey(layer.readable->get(), key, O_PATH);
  if (fd < 0) return -fd;
  ScopedFd directory(fd);
  struct stat wanted;
  if (fstat(fd, &wanted) != 0) return errno;
  // The path is only a candidate: the directory can be renamed while we look, a removed one gets " (deleted)", which
  // is a legal name as well, and through a mount of a part of the file system a directory outside is printed as "/".
  for (int attempt = 0; attempt < 16; attempt++) {
    std::string root;
    std::string printed;
    std::string rootAfter;
    int error = ReadLink(layer.readable->get(), root);
    if (error == 0) error = ReadLink(fd, printed);
    if (error == 0) error = ReadLink(layer.readable->get(), rootAfter);
    if (error != 0) return error;
    if (root != rootAfter) continue;
    if (!StripRoot(root, printed, path)) return ENOENT;
    if (path.empty()) return wanted.st_dev == layer.device && wanted.st_ino == layer.inode ? 0 : ENOENT;
    ScopedFd candidate(OpenBelow(layer.root->get(), path, O_PATH | O_DIRECTORY));
    struct stat found;
    if (!candidate.valid()) {
      // Something is mounted on top in the namespace that the root belongs to. An overlay looks beneath it.
      if (errno == EXDEV) return 0;
      if (errno != ENOENT && errno != ENOTDIR && errno != ELOOP) return errno;
    } else {
      if (fstat(candidate.get(), &found) != 0) return errno;
      if (found.st_dev == wanted.st_dev && found.st_ino == wanted.st_ino) return 0;
    }
    if (EndsWith(printed, " (deleted)")) return ESTALE;
  }
  return EAGAIN;
}

}  // namespace lowerwatch
