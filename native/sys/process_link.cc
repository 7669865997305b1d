// SPDX-License-Identifier: MIT
// What a link in /proc leads to, also when that lies on a file system that does not answer any more.
#include <fcntl.h>
#include <sys/stat.h>

#include "core/bytes.h"
#include "core/lane.h"
#include "sys/exports.h"
#include "sys/kernel.h"

namespace lowerwatch {
namespace {

struct LinkTarget {
  bool found = false;
  struct statx stat {};
};

// AT_STATX_DONT_SYNC: what the client knows is enough, no server is asked. Following such a link asks none either,
// since it is no look-up (nd_jump_link, fs/namei.c).
Napi::Value LinkTargetCall(const Napi::CallbackInfo& info) {
  return OnLane<LinkTarget>(
      info[0],
      [link = BytesFrom(info[1])](SysError&) {
        LinkTarget target;
        int flags = AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC;
        target.found = statx(AT_FDCWD, link.c_str(), flags, STATX_TYPE, &target.stat) == 0;
        return target;
      },
      [](Napi::Env env, LinkTarget& target) -> Napi::Value {
        if (!target.found) return env.Null();
        Napi::Object object = Napi::Object::New(env);
        object.Set("devMajor", Napi::Number::New(env, target.stat.stx_dev_major));
        object.Set("devMinor", Napi::Number::New(env, target.stat.stx_dev_minor));
        object.Set("directory", Napi::Boolean::New(env, S_ISDIR(target.stat.stx_mode)));
        return object;
      });
}

}  // namespace

void ExportProcessLink(Napi::Env env, Napi::Object exports) { ExportFunction<LinkTargetCall>(env, exports, "linkTarget"); }

}  // namespace lowerwatch
