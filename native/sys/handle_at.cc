// SPDX-License-Identifier: MIT
// File handles: name_to_handle_at(2), open_by_handle_at(2), Linux 2.6.39.
#include <unistd.h>

#include <cstring>
#include <optional>

#include "core/bytes.h"
#include "core/handle.h"
#include "core/lane.h"
#include "sys/exports.h"
#include "sys/kernel.h"
#include "sys/resolve.h"

namespace lowerwatch {
namespace {

struct EncodedHandle {
  int type;
  std::string bytes;
};

// struct file_handle with its room.
struct HandleBuffer {
  alignas(file_handle) char bytes[sizeof(file_handle) + MAX_HANDLE_SZ]{};
  file_handle* get() { return reinterpret_cast<file_handle*>(bytes); }
};

std::optional<EncodedHandle> HandleAt(int root, const std::string& path, bool fid, SysError& error) {
  Fd fd(OpenBeneath(root, path, O_PATH));
  if (fd.get() < 0) {
    error = PathFailure("openat2", path);
    return std::nullopt;
  }
  HandleBuffer buffer;
  buffer.get()->handle_bytes = MAX_HANDLE_SZ;
  int mountId = 0;
  int failed = -1;
  if (fid) failed = name_to_handle_at(fd.get(), "", buffer.get(), &mountId, AT_EMPTY_PATH | AT_HANDLE_FID);
  // A kernel before 6.5 does not know AT_HANDLE_FID: what it has is the handle that can be opened.
  if (!fid || (failed != 0 && errno == EINVAL))
    failed = name_to_handle_at(fd.get(), "", buffer.get(), &mountId, AT_EMPTY_PATH);
  if (failed == 0) {
    const auto* handle = reinterpret_cast<const char*>(buffer.get()->f_handle);
    return EncodedHandle{buffer.get()->handle_type, std::string(handle, buffer.get()->handle_bytes)};
  }
  // EOVERFLOW: what an encoder says that cannot.
  if (errno != EOPNOTSUPP && errno != EOVERFLOW) error = PathFailure("name_to_handle_at", path);
  return std::nullopt;
}

Napi::Value HandleAtCall(const Napi::CallbackInfo& info) {
  SharedFd root = Handle::From(info[1]);
  bool fid = info[3].IsObject() && info[3].As<Napi::Object>().Get("fid").ToBoolean();
  return OnLane<std::optional<EncodedHandle>>(
      info[0],
      [root, path = BytesFrom(info[2]), fid](SysError& error) { return HandleAt(root->get(), path, fid, error); },
      [](Napi::Env env, std::optional<EncodedHandle>& identity) -> Napi::Value {
        if (!identity) return env.Null();
        Napi::Object object = Napi::Object::New(env);
        object.Set("type", Napi::Number::New(env, identity->type));
        object.Set("bytes", BytesTo(env, identity->bytes));
        return object;
      });
}

SharedFd OpenByHandle(int root, const EncodedHandle& identity, SysError& error) {
  HandleBuffer buffer;
  if (identity.bytes.size() > MAX_HANDLE_SZ) {
    error = Failure("open_by_handle_at", "handle too long", EINVAL);
    return nullptr;
  }
  buffer.get()->handle_bytes = static_cast<unsigned>(identity.bytes.size());
  buffer.get()->handle_type = identity.type;
  memcpy(buffer.get()->f_handle, identity.bytes.data(), identity.bytes.size());
  // The mount must be named by a descriptor that is open: an O_PATH one is EBADF.
  Fd mount(OpenDirectory(root, ""));
  if (mount.get() < 0) {
    error = Failure("openat2", ".");
    return nullptr;
  }
  auto fd = std::make_shared<Fd>(open_by_handle_at(mount.get(), buffer.get(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
  if (fd->get() >= 0) return fd;
  if (errno != ESTALE) error = Failure("open_by_handle_at");
  return nullptr;
}

Napi::Value OpenByHandleCall(const Napi::CallbackInfo& info) {
  SharedFd root = Handle::From(info[1]);
  EncodedHandle identity{};
  if (info[2].IsObject()) {
    Napi::Object object = info[2].As<Napi::Object>();
    if (object.Get("type").IsNumber()) identity.type = object.Get("type").As<Napi::Number>().Int32Value();
    identity.bytes = BytesFrom(object.Get("bytes"));
  }
  return OnLane<SharedFd>(
      info[0], [root, identity](SysError& error) { return OpenByHandle(root->get(), identity, error); },
      [](Napi::Env env, SharedFd& fd) { return fd ? Handle::New(env, fd) : env.Null(); });
}

}  // namespace

void ExportHandleAt(Napi::Env env, Napi::Object exports) {
  ExportFunction<HandleAtCall>(env, exports, "handleAt");
  ExportFunction<OpenByHandleCall>(env, exports, "openByHandle");
}

}  // namespace lowerwatch
