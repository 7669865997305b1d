// SPDX-License-Identifier: MIT
#include "watch/snapshot_class.h"

#include <utility>

#include "core/bytes.h"
#include "core/lane.h"

namespace lowerwatch {

namespace {

Napi::Value ChangesTo(Napi::Env env, int layer, const std::vector<SnapshotChange>& changes) {
  Napi::Array array = Napi::Array::New(env, changes.size());
  uint32_t index = 0;
  for (const SnapshotChange& change : changes) {
    Napi::Object object = Napi::Object::New(env);
    object.Set("layer", Napi::Number::New(env, layer));
    object.Set("directory", BytesTo(env, change.directory));
    object.Set("name", BytesTo(env, change.name));
    object.Set("kind", Napi::Number::New(env, change.kind));
    array.Set(index++, object);
  }
  return array;
}

}  // namespace

Napi::Function Snapshot::Define(Napi::Env env) {
  return DefineClass(
      env, "Snapshot",
      {InstanceMethod<&Snapshot::Rescan>("rescan"), InstanceAccessor<&Snapshot::Directories>("directories"),
       InstanceMethod<&Snapshot::Close>("close")});
}

Snapshot::Snapshot(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Snapshot>(info) {
  Napi::Env env = info.Env();
  SharedFd root = Handle::From(info[1]);
  if (root == nullptr) return;
  if (!info[0].IsNumber() || !info[2].IsObject()) {
    Napi::TypeError::New(env, "expected a layer number, a Handle and options").ThrowAsJavaScriptException();
    return;
  }
  layer_ = info[0].As<Napi::Number>().Int32Value();
  Napi::Object options = info[2].As<Napi::Object>();
  Napi::Value bound = options.Get("maxDirectories");
  double number = bound.IsNumber() ? bound.As<Napi::Number>().DoubleValue() : 0;
  size_t maxDirectories = number > 1e15 ? SIZE_MAX : number > 0 ? static_cast<size_t>(number) : 0;
  store_ = std::make_shared<SnapshotStore>(std::move(root), options.Get("attributes").ToBoolean(), maxDirectories);
}

Napi::Value Snapshot::Rescan(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  bool recursive = info[2].IsObject() && info[2].As<Napi::Object>().Get("recursive").ToBoolean();
  std::string directory = BytesFrom(info[1]);
  int layer = layer_;
  std::shared_ptr<SnapshotStore> store = store_;
  if (store == nullptr) {
    auto deferred = Napi::Promise::Deferred::New(env);
    deferred.Reject(ToJsError(env, Failure("snapshot", "closed", ECANCELED)).Value());
    return deferred.Promise();
  }
  return OnLane<std::vector<SnapshotChange>>(
      info[0], [store, directory, recursive](SysError& error) { return store->Rescan(directory, recursive, error); },
      [layer](Napi::Env env, std::vector<SnapshotChange>& changes) { return ChangesTo(env, layer, changes); });
}

Napi::Value Snapshot::Directories(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), store_ == nullptr ? 0 : static_cast<double>(store_->directories()));
}

void Snapshot::Close(const Napi::CallbackInfo&) { store_.reset(); }

}  // namespace lowerwatch
