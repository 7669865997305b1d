// SPDX-License-Identifier: MIT
#include "sys/probe.h"

#include <cerrno>
#include <vector>

#include "core/bytes.h"
#include "sys/exports.h"
#include "sys/kernel.h"
#include "sys/resolve.h"

namespace lowerwatch {
namespace {

Probe Answer(int fd) {
  if (fd >= 0) return {Cached::kPositive, fd};
  switch (errno) {
    // EXDEV: another mount covers it, and what lies under that mount cannot be asked by path.
    case EAGAIN:
    case EXDEV:
      return {Cached::kNone, -1};
    // ENOTDIR, ELOOP: what is cached is no directory, so nothing is cached below it.
    case ENOENT:
    case ENOTDIR:
    case ELOOP:
      return {Cached::kNegative, -1};
    default:
      return {Cached::kStale, -1};
  }
}

}  // namespace

Probe ProbeCached(int directory, const std::string& path, uint64_t flags) {
  // A cached walk also ends with EAGAIN when any mount or rename on the machine happened during it. One more walk
  // (less than a microsecond) tells that from "not cached".
  for (int attempt = 0;; attempt++) {
    int fd = OpenBeneath(directory, path, O_PATH | flags, 0, RESOLVE_CACHED);
    if (fd >= 0 || errno != EAGAIN || attempt == 2) return Answer(fd);
  }
}

Probe ProbeLooking(int directory, const std::string& path, uint64_t flags) {
  return Answer(OpenBeneath(directory, path, O_PATH | flags));
}

namespace {

Napi::Value ProbeCachedCall(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  SharedFd overlay = Handle::From(info[0]);
  if (!overlay) return env.Undefined();
  std::string path = BytesFrom(info[1]);
  std::vector<std::string> names = BytesListFrom(info[2]);
  std::vector<uint8_t> states;
  states.reserve(names.size());
  Probe directory = ProbeCached(overlay->get(), path, O_DIRECTORY);
  Fd fd(directory.fd);
  for (const std::string& name : names) {
    // What the directory answers is what every path below it answers.
    Cached cached = directory.cached;
    if (cached == Cached::kPositive) {
      Probe probe = ProbeCached(fd.get(), name, 0);
      Fd close(probe.fd);
      cached = probe.cached;
    }
    states.push_back(static_cast<uint8_t>(cached));
  }
  return Uint8ArrayTo(env, states);
}

}  // namespace

void ExportProbe(Napi::Env env, Napi::Object exports) {
  ExportFunction<ProbeCachedCall>(env, exports, "probeCached");
}

}  // namespace lowerwatch
