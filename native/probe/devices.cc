// SPDX-License-Identifier: MIT
// A device that appears and goes, and the legacy remount.
#include <fcntl.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <string>

#include "core/bytes.h"
#include "core/error.h"
#include "probe/exports.h"
#include "sys/exports.h"
#include "sys/kernel.h"

namespace lowerwatch {

namespace {

// ioctl_loop(4): LOOP_CTL_ADD and LOOP_CTL_REMOVE of one number, Linux 3.1.
Napi::Value LoopDevice(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  unsigned long command = info[1].ToBoolean() ? LOOP_CTL_ADD : LOOP_CTL_REMOVE;
  SysError error;
  int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
  if (control < 0) {
    error = Failure("open", "/dev/loop-control");
  } else {
    if (ioctl(control, command, info[0].ToNumber().Int64Value()) < 0) error = Failure("ioctl", "/dev/loop-control");
    close(control);
  }
  if (error) ToJsError(env, error).ThrowAsJavaScriptException();
  return env.Undefined();
}

// mount(2) with MS_REMOUNT and no other flag, which is what must not be done to a mount of somebody else.
Napi::Value RemountWithoutFlags(const Napi::CallbackInfo& info) {
  std::string path = BytesFrom(info[0]);
  if (mount(nullptr, path.c_str(), nullptr, MS_REMOUNT, nullptr) != 0) {
    ToJsError(info.Env(), Failure("mount", path)).ThrowAsJavaScriptException();
  }
  return info.Env().Undefined();
}

// listmount(2) without a question: only a kernel that does not have it says that it does not.
Napi::Value HasListmount(const Napi::CallbackInfo& info) {
  bool has = syscall(SYS_listmount, nullptr, nullptr, 0, 0) >= 0 || errno != ENOSYS;
  return Napi::Boolean::New(info.Env(), has);
}

}  // namespace

void ExportDevices(Napi::Env env, Napi::Object exports) {
  ExportFunction<LoopDevice>(env, exports, "loopDevice");
  ExportFunction<RemountWithoutFlags>(env, exports, "remountWithoutFlags");
  ExportFunction<HasListmount>(env, exports, "hasListmount");
}

}  // namespace lowerwatch
