// SPDX-License-Identifier: MIT
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <iterator>
#include <string>
#include <vector>

#include "core/bytes.h"
#include "core/error.h"
#include "sys/capability_set.h"
#include "sys/exports.h"

namespace lowerwatch {

int GetCapabilities(CapabilitySet& set) {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2]{};
  if (syscall(SYS_capget, &header, data) != 0) return errno;
  set.effective = data[0].effective | static_cast<uint64_t>(data[1].effective) << 32;
  set.permitted = data[0].permitted | static_cast<uint64_t>(data[1].permitted) << 32;
  set.inheritable = data[0].inheritable | static_cast<uint64_t>(data[1].inheritable) << 32;
  return 0;
}

int SetCapabilities(const CapabilitySet& set) {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2]{};
  for (int half = 0; half < 2; half++) {
    data[half].effective = static_cast<uint32_t>(set.effective >> (32 * half));
    data[half].permitted = static_cast<uint32_t>(set.permitted >> (32 * half));
    data[half].inheritable = static_cast<uint32_t>(set.inheritable >> (32 * half));
  }
  return syscall(SYS_capset, &header, data) == 0 ? 0 : errno;
}

namespace {

// capabilities(7), by number.
constexpr const char* kNames[] = {
    "CAP_CHOWN",           "CAP_DAC_OVERRIDE",     "CAP_DAC_READ_SEARCH", "CAP_FOWNER",
    "CAP_FSETID",          "CAP_KILL",             "CAP_SETGID",          "CAP_SETUID",
    "CAP_SETPCAP",         "CAP_LINUX_IMMUTABLE",  "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",       "CAP_NET_RAW",          "CAP_IPC_LOCK",        "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",      "CAP_SYS_RAWIO",        "CAP_SYS_CHROOT",      "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",       "CAP_SYS_ADMIN",        "CAP_SYS_BOOT",        "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",    "CAP_SYS_TIME",         "CAP_SYS_TTY_CONFIG",  "CAP_MKNOD",
    "CAP_LEASE",           "CAP_AUDIT_WRITE",      "CAP_AUDIT_CONTROL",   "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",    "CAP_MAC_ADMIN",        "CAP_SYSLOG",          "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",   "CAP_AUDIT_READ",       "CAP_PERFMON",         "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
};
static_assert(std::size(kNames) == CAP_CHECKPOINT_RESTORE + 1);

Napi::Value Capabilities(const Napi::CallbackInfo& info) {
  CapabilitySet set;
  int error = GetCapabilities(set);
  if (error) {
    ToJsError(info.Env(), Failure("capget", {}, error)).ThrowAsJavaScriptException();
    return info.Env().Undefined();
  }
  std::vector<std::string> names;
  for (size_t i = 0; i < std::size(kNames); i++) {
    if (set.effective >> i & 1) names.emplace_back(kNames[i]);
  }
  return BytesListTo(info.Env(), names);
}

bool MaskOf(const std::vector<std::string>& names, uint64_t& mask, SysError& error) {
  mask = 0;
  for (const std::string& name : names) {
    size_t number = 0;
    while (number < std::size(kNames) && name != kNames[number]) number++;
    if (number == std::size(kNames)) {
      error = Failure("capset", "unknown capability " + name, EINVAL);
      return false;
    }
    mask |= 1ull << number;
  }
  return true;
}

// Every step before the last only shrinks what a later execve(2) could get back.
void Drop(uint64_t keep, SysError& error) {
  CapabilitySet set;
  int failed = GetCapabilities(set);
  if (failed) {
    error = Failure("capget", {}, failed);
  } else if ((set.permitted & keep) != keep) {
    error = Failure("capset", "a capability to keep is not permitted", EPERM);
  }
  if (error) return;
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) error = Failure("prctl", "PR_SET_NO_NEW_PRIVS");
  // Linux 4.3.
  if (!error && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0) {
    error = Failure("prctl", "PR_CAP_AMBIENT");
  }
  // A newer kernel may have capabilities without a name here: those go too.
  for (int number = 0; !error && number < 64 && prctl(PR_CAPBSET_READ, number, 0, 0, 0) >= 0; number++) {
    if (keep >> number & 1 || !(set.effective >> CAP_SETPCAP & 1)) continue;
    if (prctl(PR_CAPBSET_DROP, number, 0, 0, 0) != 0) error = Failure("prctl", "PR_CAPBSET_DROP");
  }
  if (error) return;
  failed = SetCapabilities({.effective = keep, .permitted = keep, .inheritable = set.inheritable & keep});
  if (failed) error = Failure("capset", {}, failed);
}

Napi::Value DropCapabilities(const Napi::CallbackInfo& info) {
  SysError error;
  uint64_t keep;
  if (MaskOf(BytesListFrom(info[0]), keep, error)) Drop(keep, error);
  if (error) ToJsError(info.Env(), error).ThrowAsJavaScriptException();
  return info.Env().Undefined();
}

}  // namespace

void ExportCapability(Napi::Env env, Napi::Object exports) {
  ExportFunction<Capabilities>(env, exports, "capabilities");
  ExportFunction<DropCapabilities>(env, exports, "dropCapabilities");
}

}  // namespace lowerwatch
