// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"

namespace lowerwatch {

struct MountEntry {
  uint32_t id = 0;
  uint32_t parentId = 0;
  std::optional<uint64_t> uniqueId;
  uint32_t devMajor = 0;
  uint32_t devMinor = 0;
  std::string root;
  std::string mountPoint;
  std::string fsType;
  std::string mountOptions;
  std::string superOptions;
  std::vector<std::string> propagation;
};

// listmount(2) and statmount(2); false when this kernel cannot tell everything by them.
bool ReadStatmount(std::vector<MountEntry>& mounts);

// /proc/self/mountinfo, see proc_pid_mountinfo(5).
void ReadMountinfo(std::vector<MountEntry>& mounts, SysError& error);

// One line of mountinfo; nothing when it is malformed.
std::optional<MountEntry> ParseMountinfo(std::string_view line);

}  // namespace lowerwatch
