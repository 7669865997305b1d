// SPDX-License-Identifier: MIT
// Mapped files of a process, from /proc/PID/maps: "start-end perms offset major:minor inode   path".
#include <charconv>
#include <string_view>

#include "sys/process_facts.h"

namespace lowerwatch {
namespace {

struct Line {
  std::string_view range;
  std::string_view device;
  std::string_view path;
};

// False for a mapping of no file.
bool ParseLine(std::string_view line, Line& parsed) {
  size_t path = line.find('/');
  if (path == std::string_view::npos) return false;
  std::string_view fields[5];
  for (std::string_view& field : fields) {
    size_t end = line.find(' ');
    if (end == std::string_view::npos) return false;
    field = line.substr(0, end);
    line.remove_prefix(end + 1);
  }
  size_t start = line.find_first_not_of(' ');
  if (start == std::string_view::npos || line[start] != '/') return false;
  parsed = {fields[0], fields[3], line.substr(start)};
  return true;
}

// map_files has the addresses without leading zeros, and refuses any (dname_to_vma_addr).
std::string MapFilesName(std::string_view range) {
  std::string name = "map_files/";
  size_t dash = range.find('-');
  for (std::string_view address : {range.substr(0, dash), range.substr(dash + 1)}) {
    size_t first = address.find_first_not_of('0');
    name += first == std::string_view::npos ? "0" : address.substr(first);
    name += '-';
  }
  name.pop_back();
  return name;
}

// maps escapes a newline and nothing else, so that a path with `\012` in it is ambiguous; map_files is not.
std::string ExactPath(int directory, const Line& line) {
  constexpr std::string_view newline = "\\012";
  std::string path(line.path);
  if (path.find(newline) == std::string::npos) return path;
  std::string exact;
  // It may be unmapped by now; a newline is more likely in a name than its escape.
  if (ReadProcLink(directory, MapFilesName(line.range).c_str(), exact) == 0) return exact;
  for (size_t at = path.find(newline); at != std::string::npos; at = path.find(newline, at + 1)) {
    path.replace(at, newline.size(), "\n");
  }
  return path;
}

uint32_t FileIndex(std::string_view device, std::string path, ProcessSurvey& survey) {
  std::string key(device);
  key += path;
  auto [known, added] = survey.fileIndices.try_emplace(std::move(key), static_cast<uint32_t>(survey.files.size()));
  if (added) {
    MappedFile file;
    size_t colon = device.find(':');
    std::from_chars(device.data(), device.data() + colon, file.devMajor, 16);
    std::from_chars(device.data() + colon + 1, device.data() + device.size(), file.devMinor, 16);
    file.path = std::move(path);
    survey.files.push_back(std::move(file));
  }
  return known->second;
}

}  // namespace

int SurveyMaps(int directory, ProcessFacts& facts, ProcessSurvey& survey) {
  std::string text;
  int failed = ReadProcFile(directory, "maps", text);
  if (failed) return failed;
  std::string_view rest = text;
  Line last;
  while (!rest.empty()) {
    size_t end = rest.find('\n');
    Line line;
    bool isFile = ParseLine(rest.substr(0, end), line);
    rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
    if (!isFile) continue;
    // The segments of a file follow each other. An ambiguous path may be that of another file each time.
    bool isLast = line.path == last.path && line.device == last.device;
    if (isLast && line.path.find('\\') == std::string_view::npos) continue;
    last = line;
    uint32_t index = FileIndex(line.device, ExactPath(directory, line), survey);
    if (survey.files[index].namedBy == facts.pid) continue;
    survey.files[index].namedBy = facts.pid;
    facts.mapped.push_back(index);
  }
  return 0;
}

}  // namespace lowerwatch
