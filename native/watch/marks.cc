// SPDX-License-Identifier: MIT
#include "watch/marks.h"

#include <cstdio>
#include <cstring>

#include "watch/handles.h"

namespace lowerwatch {

namespace {

// No MODIFY: content is read from the lower file itself, and is coherent. ATTRIB tells of modes, owners, and of the
// xattrs that make whiteouts and opaque directories.
constexpr uint64_t names = FAN_CREATE | FAN_DELETE | FAN_ATTRIB | FAN_ONDIR;
constexpr uint64_t moves = FAN_MOVED_FROM | FAN_MOVED_TO;
constexpr uint32_t inotifyMask =
    IN_CREATE | IN_DELETE | IN_ATTRIB | IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE_SELF | IN_ONLYDIR | IN_EXCL_UNLINK;

}  // namespace

int FanGroup::Open() {
  if (fd_.valid()) return 0;
  // The queue stays bounded (fs.fanotify.max_queued_events): an overflow is handled, memory without a bound is not.
  fd_.reset(fanotify_init(FAN_CLASS_NOTIF | FAN_CLOEXEC | FAN_NONBLOCK | FAN_REPORT_DFID_NAME, O_RDONLY | O_CLOEXEC));
  return fd_.valid() ? 0 : errno;
}

int FanGroup::Add(unsigned flags, uint64_t mask, int directory) {
  if (rename_) {
    if (fanotify_mark(fd(), FAN_MARK_ADD | flags, mask | FAN_RENAME, directory, nullptr) == 0) return 0;
    if (errno != EINVAL) return errno;
  }
  if (fanotify_mark(fd(), FAN_MARK_ADD | flags, mask | moves, directory, nullptr) != 0) return errno;
  rename_ = false;
  return 0;
}

int FanGroup::AddFilesystem(const Layer& layer) {
  int error = Open();
  if (error != 0) return error;
  bool modify = !layer.modifyNames.empty();
  error = Add(FAN_MARK_FILESYSTEM, names | (modify ? FAN_MODIFY : 0), layer.readable->get());
  if (error != 0) return error;
  Mark& mark = filesystems_[layer.fsid];
  mark.layers++;
  if (modify) mark.modifyLayers++;
  return 0;
}

void FanGroup::RemoveFilesystem(const Layer& layer) {
  auto found = filesystems_.find(layer.fsid);
  if (found == filesystems_.end()) return;
  Mark& mark = found->second;
  bool modify = !layer.modifyNames.empty() && --mark.modifyLayers == 0;
  uint64_t mask = modify ? FAN_MODIFY : 0;
  if (--mark.layers == 0) {
    mask |= names | (rename_ ? static_cast<uint64_t>(FAN_RENAME) : moves);
    filesystems_.erase(found);
  }
  if (mask != 0) {
    fanotify_mark(fd(), FAN_MARK_REMOVE | FAN_MARK_FILESYSTEM, mask, layer.readable->get(), nullptr);
  }
}

int FanGroup::AddInode(int directory, bool modify) {
  return Add(0, names | FAN_EVENT_ON_CHILD | (modify ? FAN_MODIFY : 0), directory);
}

void FanGroup::RemoveInode(int directory) {
  uint64_t mask = names | FAN_EVENT_ON_CHILD | FAN_MODIFY | (rename_ ? static_cast<uint64_t>(FAN_RENAME) : moves);
  fanotify_mark(fd(), FAN_MARK_REMOVE, mask, directory, nullptr);
}

void FanGroup::FlushInodes() {
  if (fd_.valid()) fanotify_mark(fd(), FAN_MARK_FLUSH, 0, AT_FDCWD, nullptr);
}

int InodeMarks::Arm(const Layer& layer, int fd, std::string& key) {
  int error = KeyOf(fd, false, key);
  return error != 0 ? error : group_.AddInode(fd, !layer.modifyNames.empty());
}

void InodeMarks::Disarm(const Layer& layer, const std::string& key) {
  // The mark of a removed directory went with it (ESTALE). That of one that was moved out of the layer can only be
  // found by its handle, which needs CAP_DAC_READ_SEARCH: else it stays until that directory is removed, and its
  // events count as outside.
  int directory = OpenKey(layer.readable->get(), key, O_RDONLY | O_DIRECTORY);
  if (directory < 0) return;
  group_.RemoveInode(directory);
  close(directory);
}

int InotifyMarks::Open() {
  if (fd_.valid()) return 0;
  fd_.reset(inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
  return fd_.valid() ? 0 : errno;
}

int InotifyMarks::Arm(const Layer& layer, int fd, std::string& key) {
  char path[32];
  snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
  // Nested layers share a watch: the mask only grows.
  uint32_t mask = inotifyMask | IN_MASK_ADD | (layer.modifyNames.empty() ? 0 : IN_MODIFY);
  int watch = inotify_add_watch(fd_.get(), path, mask);
  if (watch < 0) return errno;
  key = KeyOf(watch);
  return 0;
}

void InotifyMarks::Disarm(const Layer&, const std::string& key) {
  int watch;
  memcpy(&watch, key.data(), sizeof(watch));
  if (fd_.valid()) inotify_rm_watch(fd_.get(), watch);
}

}  // namespace lowerwatch
