// SPDX-License-Identifier: MIT
// OVL_IOC_INVALIDATE of a patched overlayfs: kernel-patches/, include/uapi/linux/overlayfs.h there.
#include <fcntl.h>
#include <sys/ioctl.h>

#include "core/bytes.h"
#include "core/handle.h"
#include "core/lane.h"
#include "sys/exports.h"
#include "sys/kernel.h"
#include "sys/resolve.h"

namespace lowerwatch {
namespace {

// A directory that is not there any more is no failure: the change that removed it is one of its parent.
bool IsNotThere(int code) { return code == ENOENT || code == ENOTDIR || code == ESTALE; }

Napi::Value Invalidate(const Napi::CallbackInfo& info) {
  SharedFd root = Handle::From(info[1]);
  bool subtree = info[3].IsObject() && info[3].As<Napi::Object>().Get("subtree").ToBoolean();
  return OnLane(info[0], [root, directories = BytesListFrom(info[2]), subtree](SysError& error) {
    ovl_invalidate request{subtree ? uint64_t{OVL_INVALIDATE_SUBTREE} : 0, 0};
    for (const std::string& directory : directories) {
      Fd fd(OpenBeneath(root->get(), directory, O_RDONLY | O_DIRECTORY));
      bool done = fd.get() >= 0 && ioctl(fd.get(), OVL_IOC_INVALIDATE, &request) == 0;
      if (done || IsNotThere(errno)) continue;
      error = PathFailure(fd.get() < 0 ? "openat2" : "ioctl(OVL_IOC_INVALIDATE)", directory);
      return;
    }
  });
}

}  // namespace

void ExportInvalidate(Napi::Env env, Napi::Object exports) {
  ExportFunction<Invalidate>(env, exports, "invalidate");
}

}  // namespace lowerwatch
