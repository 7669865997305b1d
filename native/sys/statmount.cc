// SPDX-License-Identifier: MIT
#include <unistd.h>

#include <cerrno>
#include <memory>

#include "sys/kernel.h"
#include "sys/mount_table.h"

namespace lowerwatch {
namespace {

// All of these at once say that statmount tells what mountinfo tells. FS_SUBTYPE came last (6.13), but is only
// set where a mount has one, so its presence is known by SUPPORTED_MASK (6.15).
constexpr uint64_t kWanted = STATMOUNT_SB_BASIC | STATMOUNT_MNT_BASIC | STATMOUNT_PROPAGATE_FROM | STATMOUNT_MNT_ROOT |
                             STATMOUNT_MNT_POINT | STATMOUNT_FS_TYPE | STATMOUNT_MNT_OPTS | STATMOUNT_FS_SUBTYPE |
                             STATMOUNT_SUPPORTED_MASK;

class StatBuffer {
 public:
  kernel::MountStat* get() { return reinterpret_cast<kernel::MountStat*>(words_.get()); }
  size_t size() const { return size_; }
  void Grow() {
    size_ *= 4;
    words_ = std::make_unique<uint64_t[]>(size_ / 8);
  }

 private:
  size_t size_ = 8192;
  std::unique_ptr<uint64_t[]> words_ = std::make_unique<uint64_t[]>(size_ / 8);
};

// statmount(2), Linux 6.8. 0 or an errno.
int Stat(uint64_t id, StatBuffer& buffer) {
  kernel::MountIdRequest request;
  request.mountId = id;
  request.parameter = kWanted;
  for (;;) {
    if (syscall(SYS_statmount, &request, buffer.get(), buffer.size(), 0) == 0) return 0;
    if (errno != EOVERFLOW || buffer.size() > (1u << 24)) return errno;
    buffer.Grow();
  }
}

// listmount(2), Linux 6.8: unique ids in ascending order. 0 or an errno.
int List(std::vector<uint64_t>& ids) {
  kernel::MountIdRequest request;
  request.mountId = LSMT_ROOT;
  uint64_t chunk[512];
  for (;;) {
    request.parameter = ids.empty() ? 0 : ids.back();
    long count = syscall(SYS_listmount, &request, chunk, 512, 0);
    if (count < 0) return errno;
    ids.insert(ids.end(), chunk, chunk + count);
    if (count < 512) return 0;
  }
}

// The words of mountinfo's sixth field, in its order.
std::string MountOptions(uint64_t attributes) {
  std::string text = attributes & MOUNT_ATTR_RDONLY ? "ro" : "rw";
  if (attributes & MOUNT_ATTR_NOSUID) text += ",nosuid";
  if (attributes & MOUNT_ATTR_NODEV) text += ",nodev";
  if (attributes & MOUNT_ATTR_NOEXEC) text += ",noexec";
  if ((attributes & MOUNT_ATTR__ATIME) == MOUNT_ATTR_NOATIME) text += ",noatime";
  if (attributes & MOUNT_ATTR_NODIRATIME) text += ",nodiratime";
  if ((attributes & MOUNT_ATTR__ATIME) == MOUNT_ATTR_RELATIME) text += ",relatime";
  if (attributes & MOUNT_ATTR_NOSYMFOLLOW) text += ",nosymfollow";
  if (attributes & MOUNT_ATTR_IDMAP) text += ",idmapped";
  return text;
}

// statmount gives the file system's own options, escaped as in mountinfo, without the flags mountinfo puts first.
std::string SuperOptions(uint32_t flags, const char* own) {
  std::string text = flags & MS_RDONLY ? "ro" : "rw";
  if (flags & MS_SYNCHRONOUS) text += ",sync";
  if (flags & MS_DIRSYNC) text += ",dirsync";
  if (flags & MS_LAZYTIME) text += ",lazytime";
  if (own != nullptr && *own != '\0') text += std::string(",") + own;
  return text;
}

MountEntry Entry(const kernel::MountStat& stat) {
  MountEntry mount;
  auto string = [&](uint32_t offset) { return stat.strings + offset; };
  mount.id = stat.id;
  mount.parentId = stat.parentId;
  mount.uniqueId = stat.uniqueId;
  mount.devMajor = stat.deviceMajor;
  mount.devMinor = stat.deviceMinor;
  mount.root = string(stat.root);
  mount.mountPoint = string(stat.mountPoint);
  mount.fsType = string(stat.fsType);
  if (stat.mask & STATMOUNT_FS_SUBTYPE) mount.fsType += std::string(".") + string(stat.fsSubtype);
  mount.mountOptions = MountOptions(stat.attributes);
  mount.superOptions =
      SuperOptions(stat.superFlags, stat.mask & STATMOUNT_MNT_OPTS ? string(stat.mountOptions) : nullptr);
  if (stat.propagation & MS_SHARED) mount.propagation.push_back("shared:" + std::to_string(stat.peerGroup));
  if (stat.propagation & MS_SLAVE) {
    mount.propagation.push_back("master:" + std::to_string(stat.master));
    if (stat.propagateFrom != 0 && stat.propagateFrom != stat.master) {
      mount.propagation.push_back("propagate_from:" + std::to_string(stat.propagateFrom));
    }
  }
  if (stat.propagation & MS_UNBINDABLE) mount.propagation.push_back("unbindable");
  return mount;
}

}  // namespace

bool ReadStatmount(std::vector<MountEntry>& mounts) {
  std::vector<uint64_t> ids;
  if (List(ids) != 0) return false;
  StatBuffer buffer;
  for (uint64_t id : ids) {
    int error = Stat(id, buffer);
    // Gone since it was listed.
    if (error == ENOENT) continue;
    const kernel::MountStat& stat = *buffer.get();
    if (error != 0 || !(stat.mask & STATMOUNT_SUPPORTED_MASK) || (stat.supportedMask & kWanted) != kWanted) {
      mounts.clear();
      return false;
    }
    mounts.push_back(Entry(stat));
  }
  return true;
}

}  // namespace lowerwatch
