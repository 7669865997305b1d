// SPDX-License-Identifier: MIT
#include "watch/list.h"

#include <dirent.h>

#include <cstring>
#include <memory>

#include "watch/kernel.h"

namespace lowerwatch {

int ListDirectory(int fd, const ListEntry& entry) {
  constexpr size_t size = 32768;
  std::unique_ptr<char[]> buffer(new char[size]);
  for (;;) {
    long length = syscall(SYS_getdents64, fd, buffer.get(), size);
    if (length < 0) return errno;
    if (length == 0) return 0;
    for (long at = 0; at < length;) {
      auto* item = reinterpret_cast<struct dirent64*>(buffer.get() + at);
      at += item->d_reclen;
      if (strcmp(item->d_name, ".") == 0 || strcmp(item->d_name, "..") == 0) continue;
      entry(item->d_name, item->d_type, item->d_ino);
    }
  }
}

}  // namespace lowerwatch
