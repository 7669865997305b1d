// SPDX-License-Identifier: MIT
#include "sys/fs_context.h"

#include <unistd.h>

#include "sys/kernel.h"

namespace lowerwatch {

int FsConfig(int context, unsigned command, const char* key, const char* value, int aux, SysError& error) {
  if (syscall(SYS_fsconfig, context, command, key, value, aux) == 0) return 0;
  int number = errno;
  std::string detail = key == nullptr ? "" : std::string(key) + (value == nullptr ? "" : std::string("=") + value);
  // One message a read: "e overlay: ...".
  char message[1024];
  for (;;) {
    ssize_t length = read(context, message, sizeof(message));
    if (length <= 0) break;
    while (length > 0 && message[length - 1] == '\n') length--;
    if (!detail.empty()) detail += "; ";
    detail.append(message, static_cast<size_t>(length));
  }
  error = Failure("fsconfig", detail, number);
  return number;
}

}  // namespace lowerwatch
