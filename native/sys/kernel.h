// SPDX-License-Identifier: MIT
// System calls, structures and constants that headers of Linux 6.1 do not have. Numbers are the kernel's ABI
// (include/uapi/linux/mount.h, fanotify.h, fcntl.h); new system calls have one number on every architecture.
#pragma once

#include <fcntl.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <sys/fanotify.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <cstdint>

#ifndef SYS_statmount
#define SYS_statmount 457  // Linux 6.8
#endif
#ifndef SYS_listmount
#define SYS_listmount 458  // Linux 6.8
#endif

#ifndef AT_HANDLE_FID
#define AT_HANDLE_FID 0x200  // Linux 6.5; overlayfs answers it without nfs_export from 6.6
#endif
#ifndef STATX_ATTR_MOUNT_ROOT
#define STATX_ATTR_MOUNT_ROOT 0x2000
#endif
#ifndef MOVE_MOUNT_BENEATH
#define MOVE_MOUNT_BENEATH 0x200  // Linux 6.5
#endif

#ifndef OVL_IOC_INVALIDATE
#define OVL_INVALIDATE_SUBTREE 1
struct ovl_invalidate {
  uint64_t flags;
  uint64_t reserved;
};
#define OVL_IOC_INVALIDATE _IOW('O', 0xF0, struct ovl_invalidate)
#endif

#ifndef FAN_REPORT_MNT
#define FAN_REPORT_MNT 0x4000  // Linux 6.15
#endif
#ifndef FAN_MARK_MNTNS
#define FAN_MARK_MNTNS 0x110
#endif
#ifndef FAN_MNT_ATTACH
#define FAN_MNT_ATTACH 0x01000000
#endif
#ifndef FAN_MNT_DETACH
#define FAN_MNT_DETACH 0x02000000
#endif

#ifndef STATMOUNT_SB_BASIC
#define STATMOUNT_SB_BASIC 0x1u
#define STATMOUNT_MNT_BASIC 0x2u
#define STATMOUNT_PROPAGATE_FROM 0x4u
#define STATMOUNT_MNT_ROOT 0x8u
#define STATMOUNT_MNT_POINT 0x10u
#define STATMOUNT_FS_TYPE 0x20u
#endif
#ifndef STATMOUNT_MNT_OPTS
#define STATMOUNT_MNT_OPTS 0x80u  // Linux 6.11
#endif
#ifndef STATMOUNT_FS_SUBTYPE
#define STATMOUNT_FS_SUBTYPE 0x100u  // Linux 6.13
#endif
#ifndef STATMOUNT_SUPPORTED_MASK
#define STATMOUNT_SUPPORTED_MASK 0x1000u  // Linux 6.15
#endif
#ifndef LSMT_ROOT
#define LSMT_ROOT 0xffffffffffffffffull
#endif

namespace lowerwatch::kernel {

// struct mnt_id_req, version 0.
struct MountIdRequest {
  uint32_t size = 24;
  uint32_t spare = 0;
  uint64_t mountId = 0;
  uint64_t parameter = 0;
};
static_assert(sizeof(MountIdRequest) == 24);

// struct statmount; offsets of strings count from `strings`.
struct MountStat {
  uint32_t size;
  uint32_t mountOptions;
  uint64_t mask;
  uint32_t deviceMajor;
  uint32_t deviceMinor;
  uint64_t magic;
  uint32_t superFlags;
  uint32_t fsType;
  uint64_t uniqueId;
  uint64_t uniqueParentId;
  uint32_t id;
  uint32_t parentId;
  uint64_t attributes;
  uint64_t propagation;
  uint64_t peerGroup;
  uint64_t master;
  uint64_t propagateFrom;
  uint32_t root;
  uint32_t mountPoint;
  uint64_t namespaceId;
  uint32_t fsSubtype;
  uint32_t source;
  uint32_t optionCount;
  uint32_t optionArray;
  uint32_t securityOptionCount;
  uint32_t securityOptionArray;
  uint64_t supportedMask;
  uint64_t spare[45];
  char strings[];
};
static_assert(sizeof(MountStat) == 512);

}  // namespace lowerwatch::kernel
