// SPDX-License-Identifier: MIT
#include "watch/decode.h"

#include <cstring>

#include "watch/kernel.h"

namespace lowerwatch {

namespace {

template <class T>
T Read(std::string_view bytes, size_t offset) {
  T value;
  memcpy(&value, bytes.data() + offset, sizeof(T));
  return value;
}

bool CarriesName(uint8_t type) {
  return type == FAN_EVENT_INFO_TYPE_DFID_NAME || type == FAN_EVENT_INFO_TYPE_OLD_DFID_NAME ||
         type == FAN_EVENT_INFO_TYPE_NEW_DFID_NAME;
}

bool CarriesHandle(uint8_t type) {
  return CarriesName(type) || type == FAN_EVENT_INFO_TYPE_DFID || type == FAN_EVENT_INFO_TYPE_FID;
}

// `info` is one record with its header of 4 bytes: type, padding, length.
bool DecodeRecord(std::string_view info, FanRecord& record) {
  constexpr size_t fsid = 4;
  record.type = Read<uint8_t>(info, 0);
  if (info.size() < fsid + keyHeader) return false;
  uint32_t handleBytes = Read<uint32_t>(info, fsid + 8);
  if (handleBytes > info.size() - fsid - keyHeader) return false;
  record.key = info.substr(fsid, keyHeader + handleBytes);
  record.name = {};
  if (CarriesName(record.type)) {
    // The name ends with a zero byte; the record is padded behind it.
    std::string_view rest = info.substr(fsid + keyHeader + handleBytes);
    size_t length = rest.find('\0');
    if (length == std::string_view::npos) return false;
    record.name = rest.substr(0, length);
  }
  return true;
}

}  // namespace

Decoded DecodeFanEvent(std::string_view& bytes, FanEvent& event) {
  if (bytes.empty()) return Decoded::end;
  constexpr size_t metadata = sizeof(struct fanotify_event_metadata);
  if (bytes.size() < metadata) return Decoded::malformed;
  auto header = Read<struct fanotify_event_metadata>(bytes, 0);
  if (header.vers != FANOTIFY_METADATA_VERSION || header.metadata_len < metadata ||
      header.event_len < header.metadata_len || header.event_len > bytes.size()) {
    return Decoded::malformed;
  }
  event.mask = header.mask;
  event.pid = header.pid;
  event.fd = header.fd;
  event.count = 0;
  std::string_view infos = bytes.substr(header.metadata_len, header.event_len - header.metadata_len);
  bytes.remove_prefix(header.event_len);
  while (!infos.empty()) {
    if (infos.size() < 4) return Decoded::malformed;
    uint16_t length = Read<uint16_t>(infos, 2);
    if (length < 4 || length > infos.size()) return Decoded::malformed;
    // Kinds of records that a later kernel may add are passed over.
    if (CarriesHandle(Read<uint8_t>(infos, 0)) && event.count < FanEvent::maxRecords) {
      if (!DecodeRecord(infos.substr(0, length), event.records[event.count])) return Decoded::malformed;
      event.count++;
    }
    infos.remove_prefix(length);
  }
  return Decoded::event;
}

Decoded DecodeInotifyEvent(std::string_view& bytes, InotifyEvent& event) {
  if (bytes.empty()) return Decoded::end;
  constexpr size_t header = sizeof(struct inotify_event);
  if (bytes.size() < header) return Decoded::malformed;
  auto raw = Read<struct inotify_event>(bytes, 0);
  if (raw.len > bytes.size() - header) return Decoded::malformed;
  event.watch = raw.wd;
  event.mask = raw.mask;
  event.cookie = raw.cookie;
  std::string_view padded = bytes.substr(header, raw.len);
  event.name = padded.substr(0, padded.find('\0'));
  bytes.remove_prefix(header + raw.len);
  return Decoded::event;
}

}  // namespace lowerwatch
