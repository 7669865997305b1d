// SPDX-License-Identifier: MIT
#include "sys/mount_table.h"

#include <unordered_map>
#include <unordered_set>

#include "core/bytes.h"
#include "core/lane.h"
#include "sys/exports.h"

namespace lowerwatch {
namespace {

struct Table {
  const char* source = "mountinfo";
  std::vector<MountEntry> mounts;
};

// Both sources are in the order in which mounts were made; a mount that was moved can be older than its parent.
std::vector<MountEntry> ParentsFirst(std::vector<MountEntry> mounts) {
  std::unordered_map<uint32_t, size_t> byId;
  for (size_t i = 0; i < mounts.size(); i++) byId[mounts[i].id] = i;
  std::vector<MountEntry> sorted;
  sorted.reserve(mounts.size());
  std::vector<bool> placed(mounts.size(), false);
  std::vector<size_t> chain;
  for (size_t i = 0; i < mounts.size(); i++) {
    for (size_t at = i; !placed[at];) {
      placed[at] = true;
      chain.push_back(at);
      auto parent = byId.find(mounts[at].parentId);
      if (parent == byId.end()) break;
      at = parent->second;
    }
    for (; !chain.empty(); chain.pop_back()) sorted.push_back(std::move(mounts[chain.back()]));
  }
  return sorted;
}

Table ReadTable(bool mountinfo, SysError& error) {
  Table table;
  if (!mountinfo && ReadStatmount(table.mounts)) {
    table.source = "statmount";
  } else {
    ReadMountinfo(table.mounts, error);
  }
  table.mounts = ParentsFirst(std::move(table.mounts));
  return table;
}

Napi::Value MountTo(Napi::Env env, const MountEntry& mount) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("id", Napi::Number::New(env, mount.id));
  object.Set("parentId", Napi::Number::New(env, mount.parentId));
  object.Set("uniqueId", mount.uniqueId ? Napi::Value(Napi::BigInt::New(env, *mount.uniqueId)) : env.Null());
  object.Set("devMajor", Napi::Number::New(env, mount.devMajor));
  object.Set("devMinor", Napi::Number::New(env, mount.devMinor));
  object.Set("root", BytesTo(env, mount.root));
  object.Set("mountPoint", BytesTo(env, mount.mountPoint));
  object.Set("fsType", BytesTo(env, mount.fsType));
  object.Set("mountOptions", BytesTo(env, mount.mountOptions));
  object.Set("superOptions", BytesTo(env, mount.superOptions));
  Napi::Array propagation = Napi::Array::New(env, mount.propagation.size());
  for (uint32_t i = 0; i < mount.propagation.size(); i++) propagation.Set(i, BytesTo(env, mount.propagation[i]));
  object.Set("propagation", propagation);
  return object;
}

Napi::Value ListMounts(const Napi::CallbackInfo& info) {
  bool mountinfo = info[1].IsObject() && BytesFrom(info[1].As<Napi::Object>().Get("source")) == "mountinfo";
  return OnLane<Table>(
      info[0], [mountinfo](SysError& error) { return ReadTable(mountinfo, error); },
      [](Napi::Env env, Table& table) -> Napi::Value {
        Napi::Array mounts = Napi::Array::New(env, table.mounts.size());
        for (uint32_t i = 0; i < table.mounts.size(); i++) {
          Napi::HandleScope scope(env);
          mounts.Set(i, MountTo(env, table.mounts[i]));
        }
        Napi::Object result = Napi::Object::New(env);
        result.Set("source", Napi::String::New(env, table.source));
        result.Set("mounts", mounts);
        return result;
      });
}

}  // namespace

void ExportMountTable(Napi::Env env, Napi::Object exports) {
  ExportFunction<ListMounts>(env, exports, "listMounts");
}

}  // namespace lowerwatch
