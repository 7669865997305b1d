// SPDX-License-Identifier: MIT
#include <fcntl.h>
#include <unistd.h>

#include <charconv>

#include "core/handle.h"
#include "sys/mount_table.h"

namespace lowerwatch {
namespace {

// The next field of a line whose fields are separated by one space; advances `rest`.
std::string_view Field(std::string_view& rest) {
  size_t end = rest.find(' ');
  std::string_view field = rest.substr(0, end);
  rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
  return field;
}

bool ParseNumber(std::string_view text, uint32_t& number) {
  auto result = std::from_chars(text.data(), text.data() + text.size(), number);
  return result.ec == std::errc() && result.ptr == text.data() + text.size() && !text.empty();
}

// The kernel writes space, tab, newline and backslash of a path as \ooo.
std::string Decode(std::string_view text) {
  auto octal = [](char c) { return c >= '0' && c <= '7'; };
  std::string bytes;
  for (size_t i = 0; i < text.size(); i++) {
    if (text[i] == '\\' && i + 3 < text.size() && octal(text[i + 1]) && octal(text[i + 2]) && octal(text[i + 3])) {
      bytes += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + (text[i + 3] - '0'));
      i += 3;
    } else {
      bytes += text[i];
    }
  }
  return bytes;
}

std::string ReadWhole(SysError& error) {
  std::string text;
  Fd file(open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC));
  if (file.get() < 0) {
    error = Failure("open", "/proc/self/mountinfo");
    return text;
  }
  // The kernel fills at most a page a read unless one line is longer, whatever the buffer's size.
  char buffer[16384];
  for (;;) {
    ssize_t length = read(file.get(), buffer, sizeof(buffer));
    if (length < 0) error = Failure("read", "/proc/self/mountinfo");
    if (length <= 0) return text;
    text.append(buffer, static_cast<size_t>(length));
  }
}

}  // namespace

std::optional<MountEntry> ParseMountinfo(std::string_view line) {
  MountEntry mount;
  std::string_view rest = line;
  bool valid = ParseNumber(Field(rest), mount.id) && ParseNumber(Field(rest), mount.parentId);
  std::string_view device = Field(rest);
  size_t colon = device.find(':');
  valid = valid && colon != std::string_view::npos && ParseNumber(device.substr(0, colon), mount.devMajor) &&
          ParseNumber(device.substr(colon + 1), mount.devMinor);
  mount.root = Decode(Field(rest));
  mount.mountPoint = Decode(Field(rest));
  mount.mountOptions = Field(rest);
  for (;;) {
    if (rest.empty()) return std::nullopt;
    std::string_view field = Field(rest);
    if (field == "-") break;
    mount.propagation.emplace_back(field);
  }
  mount.fsType = Decode(Field(rest));
  Field(rest);
  mount.superOptions = rest;
  if (!valid) return std::nullopt;
  return mount;
}

void ReadMountinfo(std::vector<MountEntry>& mounts, SysError& error) {
  std::string text = ReadWhole(error);
  std::string_view rest = text;
  while (!error && !rest.empty()) {
    size_t end = rest.find('\n');
    std::string_view line = rest.substr(0, end);
    rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
    std::optional<MountEntry> mount = ParseMountinfo(line);
    if (mount) {
      mounts.push_back(std::move(*mount));
    } else {
      error = Failure("read", "/proc/self/mountinfo: cannot parse: " + std::string(line), EBADMSG);
    }
  }
}

}  // namespace lowerwatch
