// SPDX-License-Identifier: MIT
// What happened since JavaScript last took a batch: one entry per (layer, directory, name), kinds or-ed together.
// Bounded: names merge into their directory, directories into their layer. Nothing is ever dropped.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace lowerwatch {

class Pending {
 public:
  struct Entry;
  using Entries = std::list<Entry>;

  struct Directory {
    int layer = 0;
    std::string path;
    // Views into the entries' names: list nodes do not move.
    std::unordered_map<std::string_view, Entries::iterator> names;
    bool dirty = false;
  };

  struct Entry {
    int layer;
    // Null for an entry about the layer itself.
    Directory* directory;
    std::string name;
    uint32_t kind;
  };

  // A directory that was renamed within its layer.
  struct Rename {
    int layer;
    std::string from;
    std::string to;
  };

  // Entries in the order in which they were first seen, and the directories that they point to.
  struct Batch {
    Entries entries;
    std::unordered_map<std::string, Directory> directories;
    std::vector<Rename> renames;
    int64_t readAtNs = 0;
  };

  Pending(size_t maxNames, size_t maxDirectories) : maxNames_(maxNames), maxDirectories_(maxDirectories) {}

  void Add(int layer, std::string_view directory, std::string_view name, uint32_t kind, int64_t readAtNs);
  // Not later than the entries of both names. Beyond a bound it is left out: those entries say what changed.
  void AddRename(int layer, std::string from, std::string to);
  // Kinds about the layer itself (layerDirty, layerGone, overflow). layerDirty swallows all that is pending for it.
  void AddLayer(int layer, uint32_t kind, int64_t readAtNs);
  // Forgets what is pending for a layer that is no longer watched.
  void Forget(int layer);
  Batch Take();
  bool empty() const { return batch_.entries.empty(); }

  size_t degradedDirectories = 0;
  size_t degradedLayers = 0;

 private:
  struct LayerEntry {
    Entries::iterator entry;
    bool dirty = false;
  };

  Directory* Find(int layer, std::string_view path);
  void MergeDirectory(Directory& directory);
  void MergeFullestDirectory();
  void MergeFullestLayer();
  void DropDirectories(int layer);

  const size_t maxNames_;
  const size_t maxDirectories_;
  Batch batch_;
  std::unordered_map<int, LayerEntry> layers_;
};

}  // namespace lowerwatch
