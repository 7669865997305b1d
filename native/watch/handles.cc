// SPDX-License-Identifier: MIT
#include "watch/handles.h"

#include <utility>

namespace lowerwatch {

bool HandleCache::Place::operator<(const Place& other) const {
  if (layer != other.layer) return layer < other.layer;
  if (path != other.path) return path < other.path;
  // A removed directory and its successor can be known by the same path.
  return std::less<const std::string*>{}(key, other.key);
}

HandleCache::Answer HandleCache::Resolve(std::string_view key, const std::vector<Layer*>& layers,
                                         const Places*& places) {
  auto young = young_.find(key);
  if (young != young_.end()) {
    places = &young->second;
    return Answer::known;
  }
  auto old = old_.find(key);
  if (old != old_.end()) {
    auto moved = young_.insert(old_.extract(old)).position;
    places = &moved->second;
    AgeIfFull();
    return Answer::known;
  }
  std::vector<std::pair<int, std::string>> found;
  for (const Layer* layer : layers) {
    if (key.substr(0, layer->fsid.size()) != layer->fsid) continue;
    std::string path;
    int error = LocateBelow(*layer, key, path);
    if (error == ESTALE) return Answer::gone;
    if (error != 0 && error != ENOENT) return Answer::unknown;
    if (error == 0) found.emplace_back(layer->id, std::move(path));
  }
  auto entry = young_.emplace(std::string(key), Places{}).first;
  for (auto& [layer, path] : found) {
    entry->second.push_back(places_.insert(Place{layer, std::move(path), &entry->first}).first);
  }
  places = &entry->second;
  AgeIfFull();
  return Answer::known;
}

void HandleCache::DropBelow(int layer, const std::string& path) {
  auto place = places_.lower_bound(Place{layer, path, nullptr});
  while (place != places_.end() && place->layer == layer && place->path.compare(0, path.size(), path) == 0) {
    bool below = path.empty() || place->path.size() == path.size() || place->path[path.size()] == '/';
    if (below) {
      // Erasing takes every place of that directory out of the set, in other layers too.
      const std::string key = *place->key;
      const Place next{layer, place->path, place->key};
      Erase(key);
      place = places_.upper_bound(next);
    } else if (static_cast<unsigned char>(place->path[path.size()]) < '/') {
      // "a-b" sorts between "a" and "a/b": go on where what lies below begins.
      place = places_.lower_bound(Place{layer, path + '/', nullptr});
    } else {
      break;
    }
  }
}

void HandleCache::DropOutside() {
  for (Map* map : {&young_, &old_}) {
    for (auto entry = map->begin(); entry != map->end();) {
      entry = entry->second.empty() ? map->erase(entry) : std::next(entry);
    }
  }
}

void HandleCache::Clear() {
  places_.clear();
  young_.clear();
  old_.clear();
}

void HandleCache::Erase(Map& map, Map::iterator entry) {
  for (auto place : entry->second) places_.erase(place);
  map.erase(entry);
}

void HandleCache::Erase(const std::string& key) {
  for (Map* map : {&young_, &old_}) {
    auto entry = map->find(key);
    if (entry != map->end()) Erase(*map, entry);
  }
}

void HandleCache::AgeIfFull() {
  if (young_.size() <= half_) return;
  for (auto& [key, places] : old_) {
    for (auto place : places) places_.erase(place);
  }
  old_ = std::exchange(young_, Map{});
}

}  // namespace lowerwatch
