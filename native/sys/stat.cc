// SPDX-License-Identifier: MIT
#include "sys/file_stat.h"

#include <fcntl.h>

#include <vector>

#include "core/bytes.h"
#include "core/handle.h"
#include "core/lane.h"
#include "sys/exports.h"
#include "sys/kernel.h"
#include "sys/resolve.h"

namespace lowerwatch {

int StatName(int fd, const std::string& name, struct statx* result) {
  int flags = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | (name.empty() ? AT_EMPTY_PATH : 0);
  // STATX_MNT_ID: Linux 5.8.
  return statx(fd, name.c_str(), flags, STATX_BASIC_STATS | STATX_BTIME | STATX_MNT_ID, result) == 0 ? 0 : errno;
}

int StatBeneath(int root, const std::string& path, struct statx* result) {
  if (path.empty()) return StatName(root, path, result);
  Fd fd(OpenBeneath(root, path, O_PATH));
  return fd.get() < 0 ? errno : StatName(fd.get(), "", result);
}

namespace {

int64_t Nanoseconds(const struct statx_timestamp& time) { return time.tv_sec * 1'000'000'000 + time.tv_nsec; }

bool Missing(int error) { return error == ENOENT || error == ENOTDIR; }

struct StatResult {
  int error = 0;
  struct statx stat {};
};

Napi::Value StatAt(const Napi::CallbackInfo& info) {
  SharedFd root = Handle::From(info[1]);
  return OnLane<StatResult>(
      info[0],
      [root, path = BytesFrom(info[2])](SysError& error) {
        StatResult result;
        result.error = StatBeneath(root->get(), path, &result.stat);
        if (result.error != 0 && !Missing(result.error)) error = PathFailure("statx", path, result.error);
        return result;
      },
      [](Napi::Env env, StatResult& result) { return result.error ? env.Null() : StatTo(env, result.stat); });
}

std::vector<StatResult> StatAll(int root, const std::string& path, const std::vector<std::string>& names,
                                SysError& error) {
  std::vector<StatResult> results(names.size());
  Fd directory(OpenBeneath(root, path, O_PATH | O_DIRECTORY));
  if (directory.get() < 0) {
    // ELOOP: a symbolic link is on the way.
    if (!Missing(errno) && errno != ELOOP) error = PathFailure("openat2", path);
    for (auto& result : results) result.error = ENOENT;
    return results;
  }
  for (size_t i = 0; i < names.size(); i++) {
    StatResult& result = results[i];
    result.error = IsName(names[i]) ? StatName(directory.get(), names[i], &result.stat) : EINVAL;
    // statx steps onto a mount that openat2 would refuse (RESOLVE_NO_XDEV).
    if (result.error == 0 && (result.stat.stx_attributes & STATX_ATTR_MOUNT_ROOT)) result.error = EXDEV;
  }
  return results;
}

Napi::Value StatNames(const Napi::CallbackInfo& info) {
  SharedFd root = Handle::From(info[1]);
  return OnLane<std::vector<StatResult>>(
      info[0],
      [root, path = BytesFrom(info[2]), names = BytesListFrom(info[3])](SysError& error) {
        return StatAll(root->get(), path, names, error);
      },
      [](Napi::Env env, std::vector<StatResult>& results) -> Napi::Value {
        Napi::Array list = Napi::Array::New(env, results.size());
        for (uint32_t i = 0; i < results.size(); i++) {
          int error = results[i].error;
          if (error == 0) {
            list.Set(i, StatTo(env, results[i].stat));
          } else if (Missing(error)) {
            list.Set(i, env.Null());
          } else {
            list.Set(i, Napi::Number::New(env, -error));
          }
        }
        return list;
      });
}

}  // namespace

Napi::Value StatTo(Napi::Env env, const struct statx& stat) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("mode", Napi::Number::New(env, stat.stx_mode));
  object.Set("ino", Napi::BigInt::New(env, static_cast<uint64_t>(stat.stx_ino)));
  object.Set("devMajor", Napi::Number::New(env, stat.stx_dev_major));
  object.Set("devMinor", Napi::Number::New(env, stat.stx_dev_minor));
  object.Set("rdevMajor", Napi::Number::New(env, stat.stx_rdev_major));
  object.Set("rdevMinor", Napi::Number::New(env, stat.stx_rdev_minor));
  object.Set("nlink", Napi::Number::New(env, stat.stx_nlink));
  object.Set("uid", Napi::Number::New(env, stat.stx_uid));
  object.Set("gid", Napi::Number::New(env, stat.stx_gid));
  object.Set("sizeBytes", Napi::BigInt::New(env, static_cast<uint64_t>(stat.stx_size)));
  object.Set("mtimeNs", Napi::BigInt::New(env, Nanoseconds(stat.stx_mtime)));
  object.Set("ctimeNs", Napi::BigInt::New(env, Nanoseconds(stat.stx_ctime)));
  object.Set("mountId", Napi::BigInt::New(env, static_cast<uint64_t>(stat.stx_mnt_id)));
  return object;
}

void ExportStat(Napi::Env env, Napi::Object exports) {
  ExportFunction<StatAt>(env, exports, "statAt");
  ExportFunction<StatNames>(env, exports, "statNames");
}

}  // namespace lowerwatch
