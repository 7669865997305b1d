// SPDX-License-Identifier: MIT
// Pure functions from the bytes that read(2) returned to events. They never look past the bytes they were given.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace lowerwatch {

// One info record of a fanotify event. `key` is fsid, handle length, handle type and handle as they lie in the
// event: it identifies a directory on its file system and can be looked up without a copy.
struct FanRecord {
  uint8_t type = 0;
  std::string_view key;
  std::string_view name;
};

struct FanEvent {
  static constexpr size_t maxRecords = 4;
  uint64_t mask = 0;
  int32_t pid = 0;
  // A descriptor that came with the event (never for groups that report handles), or a negative number.
  int32_t fd = -1;
  size_t count = 0;
  FanRecord records[maxRecords];
};

struct InotifyEvent {
  int32_t watch = 0;
  uint32_t mask = 0;
  uint32_t cookie = 0;
  std::string_view name;
};

enum class Decoded { event, end, malformed };

// Length of fsid (8), handle_bytes (4) and handle_type (4) in front of a handle in a key.
inline constexpr size_t keyHeader = 16;

// fanotify(7), struct fanotify_event_metadata: takes one event off the front of `bytes`.
Decoded DecodeFanEvent(std::string_view& bytes, FanEvent& event);

// inotify(7), struct inotify_event: takes one event off the front of `bytes`.
Decoded DecodeInotifyEvent(std::string_view& bytes, InotifyEvent& event);

}  // namespace lowerwatch
