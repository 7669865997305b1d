// SPDX-License-Identifier: MIT
// The fanotify group and the inotify instance of one watcher, and the marks in them.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "watch/kernel.h"
#include "watch/layer.h"
#include "watch/tree.h"

namespace lowerwatch {

// fanotify(7) with FAN_REPORT_DFID_NAME, Linux 5.9; for ordinary users with inode marks, 5.13.
class FanGroup {
 public:
  // Made at first use. 0 or errno.
  int Open();
  void Close() { fd_.reset(); }
  int fd() const { return fd_.get(); }

  // One mark per file system, whatever the number of layers on it. 0 or errno.
  int AddFilesystem(const Layer& layer);
  void RemoveFilesystem(const Layer& layer);
  int AddInode(int directory, bool modify);
  void RemoveInode(int directory);
  // Every inode mark of the group at once; filesystem marks stay.
  void FlushInodes();

 private:
  struct Mark {
    size_t layers = 0;
    size_t modifyLayers = 0;
  };

  int Add(unsigned flags, uint64_t mask, int directory);

  ScopedFd fd_;
  // FAN_RENAME, Linux 5.17; found out by trying.
  bool rename_ = true;
  std::map<std::string, Mark> filesystems_;
};

class InodeMarks final : public Marks {
 public:
  explicit InodeMarks(FanGroup& group) : group_(group) {}
  int Arm(const Layer& layer, int fd, std::string& key) override;
  void Disarm(const Layer& layer, const std::string& key) override;
  const char* LimitName() const override {
    return "fs.fanotify.max_user_marks (in a user namespace also user.max_fanotify_marks)";
  }

 private:
  FanGroup& group_;
};

class InotifyMarks final : public Marks {
 public:
  int Open();
  int fd() const { return fd_.get(); }
  // Gives every watch back.
  void Close() { fd_.reset(); }
  int Arm(const Layer& layer, int fd, std::string& key) override;
  void Disarm(const Layer& layer, const std::string& key) override;
  const char* LimitName() const override {
    return "fs.inotify.max_user_watches (in a user namespace also user.max_inotify_watches)";
  }

  static std::string KeyOf(int watch) { return std::string(reinterpret_cast<const char*>(&watch), sizeof(watch)); }

 private:
  ScopedFd fd_;
};

}  // namespace lowerwatch
