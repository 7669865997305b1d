// SPDX-License-Identifier: MIT
// fanotify events to changes.
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "watch/kind.h"
#include "watch/reader.h"

namespace lowerwatch {

namespace {

uint32_t FanotifyKinds(uint64_t mask) {
  uint32_t kinds = 0;
  if (mask & FAN_CREATE) kinds |= kind::create;
  if (mask & FAN_DELETE) kinds |= kind::remove;
  if (mask & FAN_MOVED_FROM) kinds |= kind::movedFrom;
  if (mask & FAN_MOVED_TO) kinds |= kind::movedTo;
  if (mask & FAN_ATTRIB) kinds |= kind::attributes;
  if (mask & FAN_MODIFY) kinds |= kind::modify;
  if (mask & FAN_ONDIR) kinds |= kind::directory;
  return kinds;
}

std::string Join(const std::string& directory, std::string_view name) {
  if (directory.empty()) return std::string(name);
  return directory + '/' + std::string(name);
}

}  // namespace

bool Reader::ReadFanotify() {
  for (int i = 0; i < maxReads; i++) {
    ssize_t length = read(group_.fd(), buffer_.data(), buffer_.size());
    if (length < 0 && errno == EINTR) continue;
    if (length < 0 && errno == EAGAIN) return true;
    readAtNs_ = MonotonicNs();
    if (length <= 0) {
      Overflow(false);
      return true;
    }
    std::string_view bytes(buffer_.data(), static_cast<size_t>(length));
    FanEvent event;
    Decoded decoded;
    while ((decoded = DecodeFanEvent(bytes, event)) == Decoded::event) OnFanotify(event);
    // A format that we do not know hides events: as good as lost.
    if (decoded == Decoded::malformed) Overflow(false);
  }
  return false;
}

void Reader::OnFanotify(const FanEvent& event) {
  mailbox_->counters.eventsRead++;
  if (event.fd >= 0) close(event.fd);
  if ((event.mask & FAN_Q_OVERFLOW) != 0) {
    Overflow(false);
    return;
  }
  if (event.pid == pid_) mailbox_->counters.eventsOwn++;
  bool inside = false;
  const FanRecord* from = nullptr;
  const FanRecord* to = nullptr;
  uint32_t directory = (event.mask & FAN_ONDIR) != 0 ? kind::directory : 0;
  if (directory != 0 && (event.mask & FAN_RENAME) != 0) ReportRename(event);
  for (size_t i = 0; i < event.count; i++) {
    const FanRecord& record = event.records[i];
    if (record.type == FAN_EVENT_INFO_TYPE_OLD_DFID_NAME) {
      from = &record;
      inside |= OnRecord(event, record, kind::movedFrom | directory);
    } else if (record.type == FAN_EVENT_INFO_TYPE_NEW_DFID_NAME) {
      to = &record;
      inside |= OnRecord(event, record, kind::movedTo | directory);
    } else if (record.type != FAN_EVENT_INFO_TYPE_FID) {
      inside |= OnRecord(event, record, FanotifyKinds(event.mask));
    }
  }
  if (!inside) mailbox_->counters.eventsOutside++;
  if (directory != 0 && (from != nullptr || to != nullptr)) OnDirectoryRename(from, to);
  if (directory != 0 && (event.mask & FAN_DELETE) != 0) directoryRemoved_ = true;
}

bool Reader::OnRecord(const FanEvent& event, const FanRecord& record, uint32_t kinds) {
  const auto& places = PlacesOf(record.key);
  bool inside = !places.empty();
  bool self = record.name.empty() || record.name == ".";
  for (const Place& place : places) {
    if (event.pid != pid_) {
      if (!self) {
        Report(*place.layer, place.path, record.name, kinds);
      } else if (place.path.empty()) {
        Report(*place.layer, "", "", kinds);
      } else {
        // An event on the directory itself belongs to its name in the directory above.
        size_t slash = place.path.rfind('/');
        std::string above = slash == std::string::npos ? "" : place.path.substr(0, slash);
        Report(*place.layer, above, place.path.substr(slash == std::string::npos ? 0 : slash + 1), kinds);
      }
    }
    if (self || place.node == nullptr || (kinds & kind::directory) == 0) continue;
    // Renames with both names are followed in OnDirectoryRename.
    if ((event.mask & FAN_RENAME) != 0) continue;
    if ((kinds & (kind::create | kind::movedTo)) != 0) {
      place.layer->tree->Look(place.node, record.name);
    } else if ((kinds & (kind::remove | kind::movedFrom)) != 0) {
      place.layer->tree->LookIfKnown(place.node, record.name);
    }
  }
  if (self || (kinds & kind::directory) == 0 || (event.mask & FAN_RENAME) != 0) return inside;
  // Before 5.17 the two halves of a rename are two events.
  if ((kinds & kind::movedFrom) != 0) OnDirectoryRename(&record, nullptr);
  if ((kinds & kind::movedTo) != 0) OnDirectoryRename(nullptr, &record);
  return inside;
}

// Before its two names are reported, so not later than they.
void Reader::ReportRename(const FanEvent& event) {
  std::vector<Place> left;
  std::string_view oldName;
  for (size_t i = 0; i < event.count; i++) {
    const FanRecord& record = event.records[i];
    if (record.type == FAN_EVENT_INFO_TYPE_OLD_DFID_NAME) {
      left = PlacesOf(record.key);
      oldName = record.name;
    }
  }
  for (size_t i = 0; i < event.count && !left.empty(); i++) {
    const FanRecord& record = event.records[i];
    if (record.type != FAN_EVENT_INFO_TYPE_NEW_DFID_NAME) continue;
    for (const Place& to : PlacesOf(record.key)) {
      for (const Place& from : left) {
        if (from.layer != to.layer) continue;
        mailbox_->Rename(from.layer->id, Join(from.path, oldName), Join(to.path, record.name));
      }
    }
  }
}

// Paths below a renamed directory follow. Handles that were resolved before are forgotten: at both places, because
// events are merged into older ones and the directory may have been at either; and, when a directory came in from
// elsewhere, all that were known to be outside.
void Reader::OnDirectoryRename(const FanRecord* from, const FanRecord* to) {
  std::vector<Place> left;
  std::vector<Place> reached;
  if (from != nullptr) left = PlacesOf(from->key);
  if (to != nullptr) reached = PlacesOf(to->key);
  bool entered = false;
  for (const Place& place : left) {
    if (place.node == nullptr) handles_.DropBelow(place.layer->id, Join(place.path, from->name));
  }
  for (const Place& place : reached) {
    if (place.node != nullptr) continue;
    handles_.DropBelow(place.layer->id, Join(place.path, to->name));
    entered |= std::none_of(left.begin(), left.end(), [&](const Place& old) { return old.layer == place.layer; });
  }
  // With several layers a directory that entered one may be known in another.
  if (entered && filesystemLayers_.size() > 1) {
    handles_.Clear();
  } else if (entered) {
    handles_.DropOutside();
  }
  for (const Place& place : left) {
    if (place.node == nullptr) continue;
    auto target = std::find_if(reached.begin(), reached.end(), [&](const Place& other) { return other.layer == place.layer; });
    if (target != reached.end()) {
      place.layer->tree->Rename(place.node, from->name, target->node, to->name);
    } else {
      place.layer->tree->LookIfKnown(place.node, from->name);
    }
  }
  for (const Place& place : reached) {
    if (place.node != nullptr) place.layer->tree->Look(place.node, to->name);
  }
}

const std::vector<Reader::Place>& Reader::PlacesOf(std::string_view key) {
  places_.clear();
  auto nodes = inodeMarks_.nodes.find(key);
  if (nodes != inodeMarks_.nodes.end()) {
    for (Node* node : nodes->second) {
      std::string path;
      if (node->tree->PathOf(node, path)) places_.push_back(Place{&node->tree->layer(), std::move(path), node});
    }
  }
  if (filesystemLayers_.empty()) return places_;
  const HandleCache::Places* found = nullptr;
  HandleCache::Answer answer = handles_.Resolve(key, filesystemLayers_, found);
  if (answer == HandleCache::Answer::known) {
    for (auto& place : *found) places_.push_back(Place{layers_[place->layer].get(), place->path, nullptr});
  } else if (answer == HandleCache::Answer::unknown) {
    for (Layer* layer : filesystemLayers_) {
      if (key.substr(0, layer->fsid.size()) == layer->fsid) {
        mailbox_->ChangeLayer(layer->id, kind::layerDirty, readAtNs_);
      }
    }
  }
  return places_;
}

void Reader::Overflow(bool inotify) {
  mailbox_->counters.overflows++;
  if (!inotify) handles_.Clear();
  for (auto& [id, layer] : layers_) {
    if ((layer->scope == Scope::inotify) != inotify) continue;
    mailbox_->ChangeLayer(id, kind::layerDirty | kind::overflow, readAtNs_);
    if (layer->tree != nullptr) layer->tree->LookAtAll();
  }
  directoryRemoved_ = true;
}

}  // namespace lowerwatch
