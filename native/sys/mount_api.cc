// SPDX-License-Identifier: MIT
// What changes mounts: reconfigure, attach, detach; and the machine-wide cache switch.
#include <sys/mount.h>
#include <time.h>
#include <unistd.h>

#include <string>
#include <utility>
#include <vector>

#include "core/bytes.h"
#include "core/handle.h"
#include "core/lane.h"
#include "sys/reconfigure.h"
#include "sys/exports.h"
#include "sys/fs_context.h"
#include "sys/kernel.h"
#include "sys/resolve.h"

namespace lowerwatch {
namespace {

int64_t Monotonic() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1'000'000'000 + now.tv_nsec;
}

}  // namespace

// fspick(2), Linux 5.2. Unlike MS_REMOUNT it starts from the superblock's own flags and touches no mount flag.
int64_t Reconfigure(const std::vector<Reconfigured>& overlays, SysError& error) {
  int64_t started = Monotonic();
  unsigned flags = FSPICK_CLOEXEC | FSPICK_NO_AUTOMOUNT | FSPICK_EMPTY_PATH;
  // All is made ready first: between one overlay and the next, a reader pins again what the first has forgotten.
  std::vector<Fd> contexts;
  for (const Reconfigured& one : overlays) {
    contexts.emplace_back(static_cast<int>(syscall(SYS_fspick, one.overlay, "", flags)));
    int context = contexts.back().get();
    if (context < 0) {
      error = Failure("fspick");
      return 0;
    }
    // An overlay without an upper refuses to become writable, which is what a reconfiguration without "ro" asks for.
    if (one.readOnly && FsConfig(context, FSCONFIG_SET_FLAG, "ro", nullptr, 0, error) != 0) return 0;
    for (const auto& [name, value] : one.options)
      if (FsConfig(context, FSCONFIG_SET_STRING, name.c_str(), value.c_str(), 0, error) != 0) return 0;
  }
  for (const Fd& context : contexts)
    if (FsConfig(context.get(), FSCONFIG_CMD_RECONFIGURE, nullptr, nullptr, 0, error) != 0) break;
  return Monotonic() - started;
}

namespace {

bool Flag(const Napi::Value& options, const char* name) {
  return options.IsObject() && options.As<Napi::Object>().Get(name).ToBoolean();
}

std::vector<std::pair<std::string, std::string>> OptionsOf(const Napi::Value& overlay) {
  std::vector<std::pair<std::string, std::string>> options;
  Napi::Value given = overlay.As<Napi::Object>().Get("options");
  if (!given.IsArray()) return options;
  Napi::Array pairs = given.As<Napi::Array>();
  for (uint32_t i = 0; i < pairs.Length(); i++) {
    Napi::Array pair = pairs.Get(i).As<Napi::Array>();
    options.emplace_back(BytesFrom(pair.Get(0u)), BytesFrom(pair.Get(1u)));
  }
  return options;
}

Napi::Value ReconfigureCall(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!info[1].IsArray()) {
    Napi::TypeError::New(env, "expected an array of overlays").ThrowAsJavaScriptException();
    return env.Undefined();
  }
  std::vector<SharedFd> handles;
  std::vector<Reconfigured> all;
  Napi::Array overlays = info[1].As<Napi::Array>();
  for (uint32_t index = 0; index < overlays.Length(); index++) {
    Napi::Value one = overlays.Get(index);
    handles.push_back(Handle::From(one.IsObject() ? one.As<Napi::Object>().Get("overlay") : one));
    if (env.IsExceptionPending()) return env.Undefined();
    all.push_back({handles.back()->get(), Flag(one, "readOnly"), OptionsOf(one)});
  }
  return OnLane<int64_t>(
      info[0],
      // The handles keep open what `all` has the descriptors of.
      [handles = std::move(handles), all = std::move(all)](SysError& error) { return Reconfigure(all, error); },
      [](Napi::Env env, int64_t& ns) { return Napi::Number::New(env, static_cast<double>(ns)); });
}

// move_mount(2), Linux 5.2.
Napi::Value AttachMount(const Napi::CallbackInfo& info) {
  SharedFd mount = Handle::From(info[1]);
  unsigned flags = MOVE_MOUNT_F_EMPTY_PATH | (Flag(info[3], "beneath") ? MOVE_MOUNT_BENEATH : 0);
  return OnLane(info[0], [mount, path = BytesFrom(info[2]), flags](SysError& error) {
    if (path.find('\0') != std::string::npos) {
      error = PathFailure("move_mount", path, EINVAL);
    } else if (syscall(SYS_move_mount, mount->get(), "", AT_FDCWD, path.c_str(), flags) != 0) {
      error = PathFailure("move_mount", path);
    }
  });
}

Napi::Value DetachMount(const Napi::CallbackInfo& info) {
  return OnLane(info[0], [path = BytesFrom(info[1])](SysError& error) {
    if (path.find('\0') != std::string::npos) {
      error = PathFailure("umount2", path, EINVAL);
    } else if (umount2(path.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) != 0) {
      error = PathFailure("umount2", path);
    }
  });
}

// proc_sys_vm(5): 2 drops dentries and inodes, and leaves the page cache.
Napi::Value DropCaches(const Napi::CallbackInfo& info) {
  return OnLane(info[0], [](SysError& error) {
    Fd file(open("/proc/sys/vm/drop_caches", O_WRONLY | O_CLOEXEC));
    if (file.get() < 0 || write(file.get(), "2", 1) != 1) error = Failure("write", "/proc/sys/vm/drop_caches");
  });
}

}  // namespace

void ExportMountApi(Napi::Env env, Napi::Object exports) {
  ExportFunction<ReconfigureCall>(env, exports, "reconfigure");
  ExportFunction<AttachMount>(env, exports, "attachMount");
  ExportFunction<DetachMount>(env, exports, "detachMount");
  ExportFunction<DropCaches>(env, exports, "dropCaches");
}

}  // namespace lowerwatch
