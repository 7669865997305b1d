// SPDX-License-Identifier: MIT
// Directory handle -> paths in the layers watched by a filesystem mark. What lies outside of every layer is
// remembered too: events elsewhere on a busy file system then cost one look-up and no system call.
#pragma once

#include <functional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "watch/layer.h"

namespace lowerwatch {

class HandleCache {
 public:
  // A directory's path in one layer. The same directory may lie in several.
  struct Place {
    int layer;
    std::string path;
    const std::string* key;
    bool operator<(const Place& other) const;
  };
  using Places = std::vector<std::set<Place>::iterator>;
  enum class Answer {
    known,
    // The directory was removed; the event of its parent tells.
    gone,
    // The kernel would not say where it is; any directory of the layers may be meant.
    unknown,
  };

  explicit HandleCache(size_t maxHandles) : half_(maxHandles / 2 + 1) {}

  // `layers` are those with scope `filesystem`. `places` is valid until the next call.
  Answer Resolve(std::string_view key, const std::vector<Layer*>& layers, const Places*& places);

  // A directory was renamed: nothing at or below this path is known any more.
  void DropBelow(int layer, const std::string& path);
  void DropOutside();
  void Clear();
  size_t size() const { return young_.size() + old_.size(); }

 private:
  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view key) const { return std::hash<std::string_view>{}(key); }
  };
  using Map = std::unordered_map<std::string, Places, Hash, std::equal_to<>>;

  void Erase(Map& map, Map::iterator entry);
  void Erase(const std::string& key);
  void AgeIfFull();

  // Two generations: a look-up moves an entry to the young one; when that is full, the old one is forgotten.
  const size_t half_;
  Map young_;
  Map old_;
  std::set<Place> places_;
};

// Where a handle's directory is below `layer`'s root. Returns 0 and sets `path`, ENOENT when it is outside,
// ESTALE when it is gone, another errno when it cannot be told.
int LocateBelow(const Layer& layer, std::string_view key, std::string& path);

// The key of an open directory (name_to_handle_at(2)), as a fanotify event would carry it; or errno. `decodable`
// asks for a handle that open_by_handle_at(2) takes.
int KeyOf(int fd, bool decodable, std::string& key);

// open_by_handle_at(2) of a key on the mount of `mount`, a descriptor that is not O_PATH; negative errno on failure.
int OpenKey(int mount, std::string_view key, int flags);

}  // namespace lowerwatch
