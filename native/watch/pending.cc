// SPDX-License-Identifier: MIT
#include "watch/pending.h"

#include <utility>

#include "watch/kind.h"

namespace lowerwatch {

namespace {

constexpr size_t maxRenames = 1024;

std::string KeyOf(int layer, std::string_view path) {
  std::string key(reinterpret_cast<const char*>(&layer), sizeof(layer));
  key.append(path);
  return key;
}

}  // namespace

void Pending::Add(int layer, std::string_view path, std::string_view name, uint32_t kind, int64_t readAtNs) {
  auto whole = layers_.find(layer);
  if (whole != layers_.end() && whole->second.dirty) return;
  if (batch_.entries.empty()) batch_.readAtNs = readAtNs;
  Directory* directory = Find(layer, path);
  if (directory == nullptr) {
    if (batch_.directories.size() >= maxDirectories_) {
      MergeFullestLayer();
      // The layer that was merged may be this one.
      Add(layer, path, name, kind, readAtNs);
      return;
    }
    directory = &batch_.directories[KeyOf(layer, path)];
    directory->layer = layer;
    directory->path = path;
  }
  if (directory->dirty) return;
  auto known = directory->names.find(name);
  if (known != directory->names.end()) {
    known->second->kind |= kind;
  } else {
    auto entry = batch_.entries.insert(batch_.entries.end(), Entry{layer, directory, std::string(name), kind});
    directory->names.emplace(entry->name, entry);
  }
  if (batch_.entries.size() > maxNames_) MergeFullestDirectory();
}

void Pending::AddRename(int layer, std::string from, std::string to) {
  if (batch_.renames.size() < maxRenames) batch_.renames.push_back({layer, std::move(from), std::move(to)});
}

void Pending::AddLayer(int layer, uint32_t kind, int64_t readAtNs) {
  if (batch_.entries.empty()) batch_.readAtNs = readAtNs;
  auto [found, added] = layers_.try_emplace(layer);
  if (added) {
    found->second.entry = batch_.entries.insert(batch_.entries.end(), Entry{layer, nullptr, {}, kind});
  } else {
    found->second.entry->kind |= kind;
  }
  if ((kind & kind::layerDirty) != 0 && !found->second.dirty) {
    found->second.dirty = true;
    DropDirectories(layer);
  }
}

void Pending::Forget(int layer) {
  DropDirectories(layer);
  std::erase_if(batch_.renames, [layer](const Rename& rename) { return rename.layer == layer; });
  auto whole = layers_.find(layer);
  if (whole == layers_.end()) return;
  batch_.entries.erase(whole->second.entry);
  layers_.erase(whole);
}

Pending::Batch Pending::Take() {
  Batch taken = std::move(batch_);
  batch_ = Batch{};
  layers_.clear();
  return taken;
}

Pending::Directory* Pending::Find(int layer, std::string_view path) {
  auto found = batch_.directories.find(KeyOf(layer, path));
  return found == batch_.directories.end() ? nullptr : &found->second;
}

// All names of a directory become one entry, at the place of one of them.
void Pending::MergeDirectory(Directory& directory) {
  auto names = std::move(directory.names);
  directory.names.clear();
  directory.dirty = true;
  auto place = batch_.entries.end();
  for (auto& [name, entry] : names) {
    if (place == batch_.entries.end()) {
      place = entry;
    } else {
      batch_.entries.erase(entry);
    }
  }
  if (place == batch_.entries.end()) return;
  place->name.clear();
  place->kind = kind::directoryDirty;
}

void Pending::MergeFullestDirectory() {
  Directory* fullest = nullptr;
  for (auto& [key, directory] : batch_.directories) {
    if (fullest == nullptr || directory.names.size() > fullest->names.size()) fullest = &directory;
  }
  // Merging directories of one name each would free nothing.
  if (fullest == nullptr || fullest->names.size() < 2) {
    MergeFullestLayer();
    return;
  }
  degradedDirectories++;
  MergeDirectory(*fullest);
}

void Pending::MergeFullestLayer() {
  std::unordered_map<int, size_t> sizes;
  for (auto& [key, directory] : batch_.directories) sizes[directory.layer]++;
  int fullest = 0;
  size_t most = 0;
  for (auto& [layer, size] : sizes) {
    if (size > most) {
      most = size;
      fullest = layer;
    }
  }
  if (most == 0) return;
  degradedLayers++;
  AddLayer(fullest, kind::layerDirty, batch_.readAtNs);
}

void Pending::DropDirectories(int layer) {
  for (auto entry = batch_.entries.begin(); entry != batch_.entries.end();) {
    bool drop = entry->layer == layer && entry->directory != nullptr;
    entry = drop ? batch_.entries.erase(entry) : std::next(entry);
  }
  for (auto found = batch_.directories.begin(); found != batch_.directories.end();) {
    found = found->second.layer == layer ? batch_.directories.erase(found) : std::next(found);
  }
}

}  // namespace lowerwatch
