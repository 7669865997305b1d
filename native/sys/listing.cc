// SPDX-License-Identifier: MIT
// The merged listing that overlayfs shares between all who hold a directory open: reading it, and making it go.
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/bytes.h"
#include "core/handle.h"
#include "core/lane.h"
#include "sys/directory.h"
#include "sys/exports.h"
#include "sys/kernel.h"
#include "sys/resolve.h"
#include "sys/file_stat.h"

namespace lowerwatch {
namespace {

std::vector<uint8_t> ListingHas(int overlay, const std::string& path, const std::vector<std::string>& names,
                                SysError& error) {
  std::vector<uint8_t> has(names.size(), 0);
  Fd fd(OpenDirectory(overlay, path));
  if (fd.get() < 0) {
    error = PathFailure("openat2", path);
    return has;
  }
  std::unordered_multimap<std::string_view, size_t> wanted;
  for (size_t i = 0; i < names.size(); i++) wanted.emplace(names[i], i);
  int failed = ReadEntries(fd.get(), [&](const DirectoryEntry& entry) {
    auto [first, last] = wanted.equal_range(entry.name);
    for (; first != last; ++first) has[first->second] = 1;
  });
  if (failed) error = PathFailure("getdents64", path, failed);
  return has;
}

Napi::Value ListingHasCall(const Napi::CallbackInfo& info) {
  SharedFd overlay = Handle::From(info[1]);
  return OnLane<std::vector<uint8_t>>(
      info[0],
      [overlay, path = BytesFrom(info[2]), names = BytesListFrom(info[3])](SysError& error) {
        return ListingHas(overlay->get(), path, names, error);
      },
      Uint8ArrayTo);
}

// A name made and removed through the overlay moves the directory's version on, and overlayfs forgets the listing
// (ovl_dir_version_inc). mknod(2) of a regular file needs no privilege and opens nothing.
void Nudge(int overlay, const std::string& path, SysError& error) {
  Fd fd(OpenBeneath(overlay, path, O_RDONLY | O_DIRECTORY));
  struct statx before {};
  int failed = fd.get() < 0 ? errno : StatName(fd.get(), "", &before);
  if (failed) {
    error = PathFailure(fd.get() < 0 ? "openat2" : "statx", path, failed);
    return;
  }
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  std::string name = ".lowerwatch-nudge." + std::to_string(getpid()) + "." +
                     std::to_string(now.tv_sec * 1'000'000'000 + now.tv_nsec);
  if (mknodat(fd.get(), name.c_str(), S_IFREG | 0600, 0) != 0) {
    error = PathFailure("mknodat", path);
    return;
  }
  if (unlinkat(fd.get(), name.c_str(), 0) != 0) {
    error = PathFailure("unlinkat", path.empty() ? name : path + "/" + name);
    return;
  }
  timespec times[2] = {{0, UTIME_OMIT}, {before.stx_mtime.tv_sec, static_cast<long>(before.stx_mtime.tv_nsec)}};
  if (futimens(fd.get(), times) != 0) error = PathFailure("utimensat", path);
}

Napi::Value NudgeCall(const Napi::CallbackInfo& info) {
  SharedFd overlay = Handle::From(info[1]);
  return OnLane(info[0], [overlay, path = BytesFrom(info[2])](SysError& error) { Nudge(overlay->get(), path, error); });
}

}  // namespace

void ExportListing(Napi::Env env, Napi::Object exports) {
  ExportFunction<ListingHasCall>(env, exports, "listingHas");
  ExportFunction<NudgeCall>(env, exports, "nudge");
}

}  // namespace lowerwatch
