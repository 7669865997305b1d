// SPDX-License-Identifier: MIT
#include "sys/resolve.h"

#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "sys/kernel.h"

namespace lowerwatch {

int OpenBeneath(int root, const std::string& path, uint64_t flags, uint64_t mode, uint64_t resolve) {
  // A NUL would cut the path: the caller would get another file than it asked for.
  if (path.find('\0') != std::string::npos) {
    errno = EINVAL;
    return -1;
  }
  open_how how{};
  how.flags = flags | O_CLOEXEC | O_NOFOLLOW;
  how.mode = mode;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV | resolve;
  return static_cast<int>(syscall(SYS_openat2, root, path.empty() ? "." : path.c_str(), &how, sizeof(how)));
}

std::pair<std::string, std::string> SplitPath(const std::string& path) {
  size_t slash = path.rfind('/');
  if (slash == std::string::npos) return {"", path};
  return {path.substr(0, slash), path.substr(slash + 1)};
}

bool IsName(std::string_view name) {
  return !name.empty() && name != "." && name != ".." && name.find('/') == std::string_view::npos &&
         name.find('\0') == std::string_view::npos;
}

SysError PathFailure(const char* syscall, std::string_view path, int number) {
  std::string text;
  for (unsigned char c : path) {
    if (c >= 0x20 && c < 0x7f && c != '\\') {
      text += static_cast<char>(c);
    } else {
      char escaped[5];
      snprintf(escaped, sizeof(escaped), "\\x%02x", c);
      text += escaped;
    }
  }
  return Failure(syscall, text.empty() ? "." : text, number);
}

int OpenDirectory(int root, const std::string& path) {
  int fd = OpenBeneath(root, path, O_RDONLY | O_DIRECTORY | O_NOATIME);
  if (fd < 0 && errno == EPERM) fd = OpenBeneath(root, path, O_RDONLY | O_DIRECTORY);
  return fd;
}

}  // namespace lowerwatch
