// SPDX-License-Identifier: MIT
// What /proc tells about processes: proc_pid_fd(5), proc_pid_fdinfo(5), proc_pid_maps(5), proc_pid_mountinfo(5).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "core/error.h"

namespace lowerwatch {

struct DescriptorFacts {
  uint32_t number = 0;
  int32_t mountId = -1;
  uint32_t flags = 0;
  std::string link;
};

struct MappedFile {
  uint32_t devMajor = 0;
  uint32_t devMinor = 0;
  std::string path;
  // The last process that was found to map it, so that each process names it once.
  uint32_t namedBy = 0;
};

struct ProcessFacts {
  uint32_t pid = 0;
  bool unreadable = false;
  std::string command;
  std::string mountNamespace;
  std::string root;
  std::string cwd;
  std::optional<std::string> mountTable;
  std::vector<DescriptorFacts> descriptors;
  // Indices in ProcessSurvey::files.
  std::vector<uint32_t> mapped;
};

// Processes map the same libraries: each file is remembered, and made a JavaScript object, once.
struct ProcessSurvey {
  std::vector<ProcessFacts> processes;
  std::vector<MappedFile> files;
  std::unordered_map<std::string, uint32_t> fileIndices;
  // Mount namespace and root directory of the tables that were read.
  std::unordered_set<std::string> tables;
};

inline bool IsGone(int number) { return number == ENOENT || number == ESRCH; }
inline bool IsDenied(int number) { return number == EACCES || number == EPERM; }

// A link of /proc as it reads; it is not followed. 0 or an errno.
int ReadProcLink(int directory, const char* name, std::string& target);

// A file of /proc from start to end. 0 or an errno.
int ReadProcFile(int directory, const char* name, std::string& text);

// Adds the process to the survey, unless it is gone. `proc`: a descriptor of /proc.
void SurveyProcess(int proc, uint32_t pid, bool maps, ProcessSurvey& survey, SysError& error);

// Adds the files that the process behind `directory` (/proc/PID) maps. 0 or an errno.
int SurveyMaps(int directory, ProcessFacts& facts, ProcessSurvey& survey);

}  // namespace lowerwatch
