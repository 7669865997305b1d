// SPDX-License-Identifier: MIT
// Permission checks as other users: setfsuid(2), setfsgid(2) of the lane's thread and faccessat2(2), Linux 5.8.
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <vector>

#include "core/bytes.h"
#include "core/handle.h"
#include "core/lane.h"
#include "sys/capability_set.h"
#include "sys/exports.h"
#include "sys/kernel.h"
#include "sys/resolve.h"

namespace lowerwatch {
namespace {

struct Credential {
  uid_t uid;
  gid_t gid;
};

// Raw system calls throughout: glibc's wrappers change every thread of the process.
long FsUid(uid_t uid) { return syscall(SYS_setfsuid, uid); }
long FsGid(gid_t gid) { return syscall(SYS_setfsgid, gid); }
constexpr uid_t kAsk = static_cast<uid_t>(-1);

// Remembers who this thread is and makes it that again, whatever happened in between.
class Identity {
 public:
  explicit Identity(SysError& error) : error_(error) {
    int failed = GetCapabilities(capabilities_);
    int count = getgroups(0, nullptr);
    if (count > 0) groups_.resize(static_cast<size_t>(count));
    if (failed || count < 0 || getgroups(count, groups_.data()) < 0) {
      error_ = Failure(failed ? "capget" : "getgroups", {}, failed ? failed : errno);
      return;
    }
    uid_ = static_cast<uid_t>(FsUid(kAsk));
    gid_ = static_cast<gid_t>(FsGid(kAsk));
    dumpable_ = prctl(PR_GET_DUMPABLE, 0, 0, 0, 0);
    saved_ = true;
  }

  ~Identity() {
    if (!saved_) return;
    Restore();
    // Changing credentials makes a process undumpable, and so its own /proc/self another user's.
    if (dumpable_ == 1) prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
  }

  // False with `error` set when this thread may not become that user.
  bool Become(const Credential& credential) {
    if (!groups_.empty() && syscall(SYS_setgroups, 0, nullptr) != 0) return Fail("setgroups", errno);
    FsGid(credential.gid);
    FsUid(credential.uid);
    // Neither call reports failure. EINVAL: the user namespace has no such id.
    if (FsUid(kAsk) != credential.uid || FsGid(kAsk) != credential.gid) return Fail("setfsuid", EPERM);
    // Leaving uid 0 drops the file capabilities by itself, but this also serves uid 0 and processes without it.
    CapabilitySet none = capabilities_;
    none.effective = 0;
    int failed = SetCapabilities(none);
    return failed == 0 || Fail("capset", failed);
  }

  void Restore() {
    // First the capabilities: the rest needs CAP_SETUID and CAP_SETGID.
    int failed = SetCapabilities(capabilities_);
    FsUid(uid_);
    FsGid(gid_);
    if (!groups_.empty() && syscall(SYS_setgroups, groups_.size(), groups_.data()) != 0) failed = errno;
    // Going back to uid 0 raised what is permitted of the file capabilities.
    if (!failed) failed = SetCapabilities(capabilities_);
    if (failed && !error_) error_ = Failure("capset", "cannot become oneself again", failed);
  }

 private:
  bool Fail(const char* syscall, int number) {
    error_ = Failure(syscall, {}, number);
    return false;
  }

  SysError& error_;
  bool saved_ = false;
  CapabilitySet capabilities_;
  std::vector<gid_t> groups_;
  uid_t uid_ = 0;
  gid_t gid_ = 0;
  int dumpable_ = 0;
};

int Granted(int fd, SysError& error) {
  int granted = 0;
  for (int bit : {R_OK, W_OK, X_OK}) {
    // AT_EACCESS: with the thread's present credentials, which are the ones set here.
    if (syscall(SYS_faccessat2, fd, "", bit, AT_EACCESS | AT_EMPTY_PATH) == 0) {
      granted |= bit;
    } else if (errno != EACCES && errno != EROFS && errno != ETXTBSY && errno != EPERM) {
      error = Failure("faccessat2");
    }
  }
  return granted;
}

std::vector<int> AccessAs(int root, const std::string& path, const std::vector<Credential>& credentials,
                          SysError& error) {
  std::vector<int> granted;
  // Opened as oneself: only the file is asked about, not the way to it.
  Fd fd(OpenBeneath(root, path, O_PATH));
  if (fd.get() < 0) {
    error = PathFailure("openat2", path);
    return granted;
  }
  Identity self(error);
  for (const Credential& credential : credentials) {
    if (error || !self.Become(credential)) break;
    granted.push_back(Granted(fd.get(), error));
    self.Restore();
  }
  return granted;
}

Napi::Value AccessAsCall(const Napi::CallbackInfo& info) {
  SharedFd root = Handle::From(info[1]);
  std::vector<Credential> credentials;
  if (info[3].IsArray() && !info.Env().IsExceptionPending()) {
    Napi::Array array = info[3].As<Napi::Array>();
    for (uint32_t i = 0; i < array.Length(); i++) {
      Napi::Object object = array.Get(i).As<Napi::Object>();
      credentials.push_back({object.Get("uid").ToNumber(), object.Get("gid").ToNumber()});
    }
  }
  return OnLane<std::vector<int>>(
      info[0],
      [root, path = BytesFrom(info[2]), credentials = std::move(credentials)](SysError& error) {
        return AccessAs(root->get(), path, credentials, error);
      },
      [](Napi::Env env, std::vector<int>& granted) -> Napi::Value {
        Napi::Array list = Napi::Array::New(env, granted.size());
        for (uint32_t i = 0; i < granted.size(); i++) list.Set(i, Napi::Number::New(env, granted[i]));
        return list;
      });
}

}  // namespace

void ExportAccess(Napi::Env env, Napi::Object exports) { ExportFunction<AccessAsCall>(env, exports, "accessAs"); }

}  // namespace lowerwatch
