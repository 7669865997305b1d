// SPDX-License-Identifier: MIT
// Extended attributes of what an O_PATH descriptor names: getxattr(2), listxattr(2) through /proc/self/fd, because
// fgetxattr refuses such a descriptor (EBADF) and getxattrat is only in Linux 6.13.
#include <fcntl.h>
#include <sys/xattr.h>

#include <optional>
#include <string_view>
#include <vector>

#include "core/bytes.h"
#include "core/handle.h"
#include "core/lane.h"
#include "sys/exports.h"
#include "sys/resolve.h"

namespace lowerwatch {
namespace {

// Calls `read(path, buffer, size)` with a buffer that is large enough, though the value may grow between two calls.
// Negative: errno is set.
template <class Read>
ssize_t ReadGrowing(int fd, std::string& value, Read read) {
  std::string path = "/proc/self/fd/" + std::to_string(fd);
  for (value.resize(256);;) {
    ssize_t length = read(path.c_str(), value.data(), value.size());
    if (length >= 0) value.resize(static_cast<size_t>(length));
    if (length >= 0 || errno != ERANGE) return length;
    ssize_t needed = read(path.c_str(), nullptr, 0);
    if (needed < 0) return needed;
    value.resize(static_cast<size_t>(needed) + 64);
  }
}

std::optional<std::string> Get(int root, const std::string& path, const std::string& name, SysError& error) {
  Fd fd(OpenBeneath(root, path, O_PATH));
  if (fd.get() < 0) {
    error = PathFailure("openat2", path);
    return std::nullopt;
  }
  std::string value;
  ssize_t length = ReadGrowing(fd.get(), value, [&](const char* file, char* buffer, size_t size) {
    return getxattr(file, name.c_str(), buffer, size);
  });
  if (length >= 0) return value;
  // A file system that has no attributes, or not of this kind, has not set this one either.
  if (errno != ENODATA && errno != ENOTSUP) error = PathFailure("getxattr", path);
  return std::nullopt;
}

Napi::Value GetXattr(const Napi::CallbackInfo& info) {
  SharedFd root = Handle::From(info[1]);
  return OnLane<std::optional<std::string>>(
      info[0],
      [root, path = BytesFrom(info[2]), name = BytesFrom(info[3])](SysError& error) {
        return Get(root->get(), path, name, error);
      },
      [](Napi::Env env, std::optional<std::string>& value) -> Napi::Value {
        if (!value) return env.Null();
        return Napi::Buffer<char>::Copy(env, value->data(), value->size());
      });
}

std::vector<std::string> List(int root, const std::string& path, SysError& error) {
  std::vector<std::string> names;
  Fd fd(OpenBeneath(root, path, O_PATH));
  if (fd.get() < 0) {
    error = PathFailure("openat2", path);
    return names;
  }
  std::string text;
  ssize_t length = ReadGrowing(fd.get(), text, [](const char* file, char* buffer, size_t size) {
    return listxattr(file, buffer, size);
  });
  if (length < 0) {
    if (errno != ENOTSUP) error = PathFailure("listxattr", path);
    return names;
  }
  for (std::string_view rest = text; !rest.empty();) {
    std::string_view name = rest.substr(0, rest.find('\0'));
    names.emplace_back(name);
    rest.remove_prefix(std::min(rest.size(), name.size() + 1));
  }
  return names;
}

Napi::Value ListXattrs(const Napi::CallbackInfo& info) {
  SharedFd root = Handle::From(info[1]);
  return OnLane<std::vector<std::string>>(
      info[0],
      [root, path = BytesFrom(info[2])](SysError& error) { return List(root->get(), path, error); }, BytesListTo);
}

}  // namespace

void ExportXattr(Napi::Env env, Napi::Object exports) {
  ExportFunction<GetXattr>(env, exports, "getXattr");
  ExportFunction<ListXattrs>(env, exports, "listXattrs");
}

}  // namespace lowerwatch
