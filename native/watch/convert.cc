// SPDX-License-Identifier: MIT
#include "watch/convert.h"

#include "core/bytes.h"

namespace lowerwatch {

bool ReadLayerOptions(const Napi::Value& value, Command& command) {
  if (!value.IsObject()) return false;
  Napi::Object options = value.As<Napi::Object>();
  Napi::Value maxDirectories = options.Get("maxDirectories");
  if (!options.Get("scopes").IsArray() || !options.Get("modifyNames").IsArray() || !maxDirectories.IsNumber()) {
    return false;
  }
  for (const std::string& name : BytesListFrom(options.Get("scopes"))) {
    if (name == "filesystem") {
      command.scopes.push_back(Scope::filesystem);
    } else if (name == "inode") {
      command.scopes.push_back(Scope::inode);
    } else if (name == "inotify") {
      command.scopes.push_back(Scope::inotify);
    } else {
      return false;
    }
  }
  Napi::Value reflex = options.Get("reflex");
  if (reflex.IsObject()) {
    Napi::Object given = reflex.As<Napi::Object>();
    SharedFd overlay = Handle::From(given.Get("overlay"));
    if (overlay == nullptr) return false;
    SharedFd upper = given.Get("upper").IsObject() ? Handle::From(given.Get("upper")) : nullptr;
    double share = given.Get("share").ToNumber().DoubleValue();
    command.reflex = Reflex(overlay, upper, share > 0 ? share : 0.1);
  }
  command.modifyNames = BytesListFrom(options.Get("modifyNames"));
  double bound = maxDirectories.As<Napi::Number>().DoubleValue();
  // Infinity is allowed: the kernel's limits remain.
  command.maxDirectories = bound > 1e15 ? SIZE_MAX : bound > 0 ? static_cast<size_t>(bound) : 0;
  return true;
}

Napi::Value LayerStateTo(Napi::Env env, const LayerState& state) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("scope", ScopeName(state.scope));
  object.Set("reasons", BytesListTo(env, state.reasons));
  object.Set("directories", static_cast<double>(state.directories));
  object.Set("unwatched", BytesListTo(env, state.unwatched));
  object.Set("unwatchedReason", state.unwatchedReason);
  return object;
}

Napi::Object CountersTo(Napi::Env env, const Counters& counters) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("eventsRead", static_cast<double>(counters.eventsRead));
  object.Set("eventsOutside", static_cast<double>(counters.eventsOutside));
  object.Set("eventsOwn", static_cast<double>(counters.eventsOwn));
  object.Set("overflows", static_cast<double>(counters.overflows));
  object.Set("batches", static_cast<double>(counters.batches));
  object.Set("directoriesWatched", static_cast<double>(counters.directoriesWatched));
  object.Set("cachedHandles", static_cast<double>(counters.cachedHandles));
  return object;
}

Napi::Value BatchTo(Napi::Env env, const Pending::Batch& batch, const std::vector<Reflex::Refreshed>& refreshed) {
  Napi::Array changes = Napi::Array::New(env, batch.entries.size());
  Napi::String layerKey = Napi::String::New(env, "layer");
  Napi::String directoryKey = Napi::String::New(env, "directory");
  Napi::String nameKey = Napi::String::New(env, "name");
  Napi::String kindKey = Napi::String::New(env, "kind");
  Napi::Value none = BytesTo(env, "");
  // Names of one directory usually come together: its string is made once.
  const Pending::Directory* last = nullptr;
  Napi::Value path = none;
  uint32_t index = 0;
  for (const Pending::Entry& entry : batch.entries) {
    if (entry.directory != last) {
      last = entry.directory;
      path = last == nullptr ? none : BytesTo(env, last->path);
    }
    Napi::Object change = Napi::Object::New(env);
    change.Set(layerKey, Napi::Number::New(env, entry.layer));
    change.Set(directoryKey, path);
    change.Set(nameKey, BytesTo(env, entry.name));
    change.Set(kindKey, Napi::Number::New(env, entry.kind));
    changes.Set(index++, change);
  }
  Napi::Object object = Napi::Object::New(env);
  object.Set("changes", changes);
  Napi::Array refreshes = Napi::Array::New(env, refreshed.size());
  for (uint32_t i = 0; i < refreshed.size(); i++) {
    Napi::Object entry = Napi::Object::New(env);
    entry.Set("layer", refreshed[i].layer);
    entry.Set("spentNs", static_cast<double>(refreshed[i].spentNs));
    entry.Set("latencyNs", static_cast<double>(refreshed[i].latencyNs));
    refreshes.Set(i, entry);
  }
  object.Set("refreshed", refreshes);
  Napi::Array renames = Napi::Array::New(env, batch.renames.size());
  for (uint32_t i = 0; i < batch.renames.size(); i++) {
    Napi::Object entry = Napi::Object::New(env);
    entry.Set("layer", batch.renames[i].layer);
    entry.Set("from", BytesTo(env, batch.renames[i].from));
    entry.Set("to", BytesTo(env, batch.renames[i].to));
    renames.Set(i, entry);
  }
  object.Set("renames", renames);
  object.Set("readAtNs", Napi::BigInt::New(env, batch.readAtNs));
  return object;
}

}  // namespace lowerwatch
