// SPDX-License-Identifier: MIT
// Facts for the coherence stage: what the overlay has cached for names that changed below, and what the layers have.
#include <unistd.h>

#include <memory>
#include <vector>

#include "core/bytes.h"
#include "core/handle.h"
#include "core/lane.h"
#include "sys/exports.h"
#include "sys/kernel.h"
#include "sys/probe.h"
#include "sys/resolve.h"
#include "sys/file_stat.h"

namespace lowerwatch {
namespace {

struct Request {
  std::string directory;
  std::vector<std::string> names;
};

struct NameFacts {
  uint32_t index;
  Cached cached;
  bool hasLive = false;
  struct statx live {};
  std::vector<std::unique_ptr<struct statx>> layers;
};

struct DirectoryFacts {
  Cached cached = Cached::kNone;
  std::vector<NameFacts> names;
};

class Examiner {
 public:
  Examiner(int overlay, const std::vector<SharedFd>& layers, bool revalidates, bool lookUpDirectories, SysError& error)
      : overlay_(overlay),
        layers_(layers),
        revalidates_(revalidates),
        lookUpDirectories_(lookUpDirectories),
        error_(error) {}

  DirectoryFacts Directory(const Request& request) {
    DirectoryFacts facts;
    Probe probe = ProbeCached(overlay_, request.directory, O_DIRECTORY);
    if (probe.cached == Cached::kNone && (revalidates_ || lookUpDirectories_)) {
      probe = ProbeLooking(overlay_, request.directory, O_DIRECTORY);
    }
    Fd directory(probe.fd);
    facts.cached = probe.cached;
    if (probe.cached != Cached::kPositive || !Barrier(directory.get(), facts, request)) return facts;
    for (uint32_t i = 0; i < request.names.size() && !error_; i++) Name(directory.get(), request.names[i], i, facts);
    if (!error_) Layers(request, facts);
    return facts;
  }

 private:
  // A lookup in flight holds the directory's inode lock shared until it has filed its answer, which it may have
  // computed before the change. Seeking an open overlay directory takes that lock exclusively (ovl_dir_llseek, 6.1
  // to 7.2): after it, such an answer can be probed. False: there are no names to ask for.
  bool Barrier(int directory, DirectoryFacts& facts, const Request& request) {
    Fd fd(OpenBeneath(directory, "", O_RDONLY | O_DIRECTORY));
    if (fd.get() < 0 && (errno == ENOENT || errno == ESTALE)) {
      // The directory below was removed while the overlay holds on to it (kernfs opens no dead directory).
      facts.cached = Cached::kStale;
      return false;
    }
    if (fd.get() < 0 || lseek(fd.get(), 0, SEEK_SET) < 0) {
      error_ = PathFailure(fd.get() < 0 ? "openat2" : "lseek", request.directory);
      return false;
    }
    return true;
  }

  void Name(int directory, const std::string& name, uint32_t index, DirectoryFacts& facts) {
    if (!name.empty() && !IsName(name)) {
      error_ = PathFailure("openat2", name, EINVAL);
      return;
    }
    NameFacts fact{.index = index, .cached = Cached::kPositive, .live = {}, .layers = {}};
    if (name.empty()) {
      fact.hasLive = StatName(directory, "", &fact.live) == 0;
    } else {
      Probe probe = ProbeCached(directory, name, 0);
      if (probe.cached == Cached::kNone && revalidates_) {
        probe = ProbeLooking(directory, name, 0);
        // Asked of the layers just now: this answer is fresh. (A negative from before is seen without asking.)
        if (probe.cached == Cached::kNegative) return;
      }
      Fd fd(probe.fd);
      if (probe.cached == Cached::kNone) return;
      fact.cached = probe.cached;
      fact.hasLive = fd.get() >= 0 && StatName(fd.get(), "", &fact.live) == 0;
    }
    // The inode was found and cannot be asked: it is gone below.
    if (fact.cached == Cached::kPositive && !fact.hasLive) fact.cached = Cached::kStale;
    facts.names.push_back(std::move(fact));
  }

  void Layers(const Request& request, DirectoryFacts& facts) {
    if (facts.names.empty()) return;
    for (const SharedFd& layer : layers_) {
      Fd directory(OpenBeneath(layer->get(), request.directory, O_PATH | O_DIRECTORY));
      for (NameFacts& fact : facts.names) {
        const std::string& name = request.names[fact.index];
        auto stat = std::make_unique<struct statx>();
        int missing;
        if (name.empty()) {
          missing = StatBeneath(layer->get(), request.directory, stat.get());
        } else {
          missing = directory.get() < 0 ? ENOENT : StatName(directory.get(), name, stat.get());
        }
        fact.layers.push_back(missing ? nullptr : std::move(stat));
      }
    }
  }

  int overlay_;
  const std::vector<SharedFd>& layers_;
  bool revalidates_;
  bool lookUpDirectories_;
  SysError& error_;
};

Napi::Value FactsTo(Napi::Env env, const DirectoryFacts& facts) {
  Napi::Array names = Napi::Array::New(env, facts.names.size());
  for (uint32_t i = 0; i < facts.names.size(); i++) {
    Napi::HandleScope scope(env);
    const NameFacts& fact = facts.names[i];
    Napi::Array layers = Napi::Array::New(env, fact.layers.size());
    for (uint32_t layer = 0; layer < fact.layers.size(); layer++) {
      layers.Set(layer, fact.layers[layer] ? StatTo(env, *fact.layers[layer]) : env.Null());
    }
    Napi::Object name = Napi::Object::New(env);
    name.Set("index", Napi::Number::New(env, fact.index));
    name.Set("cached", Napi::Number::New(env, static_cast<uint8_t>(fact.cached)));
    name.Set("live", fact.hasLive ? StatTo(env, fact.live) : env.Null());
    name.Set("layers", layers);
    names.Set(i, name);
  }
  Napi::Object object = Napi::Object::New(env);
  object.Set("cached", Napi::Number::New(env, static_cast<uint8_t>(facts.cached)));
  object.Set("names", names);
  return object;
}

Napi::Value Examine(const Napi::CallbackInfo& info) {
  SharedFd overlay = Handle::From(info[1]);
  std::vector<SharedFd> layers;
  if (info[2].IsArray()) {
    Napi::Array array = info[2].As<Napi::Array>();
    for (uint32_t i = 0; i < array.Length() && !info.Env().IsExceptionPending(); i++) {
      layers.push_back(Handle::From(array.Get(i)));
    }
  }
  std::vector<Request> requests;
  if (info[3].IsArray() && !info.Env().IsExceptionPending()) {
    Napi::Array array = info[3].As<Napi::Array>();
    for (uint32_t i = 0; i < array.Length(); i++) {
      Napi::Object request = array.Get(i).As<Napi::Object>();
      requests.push_back({BytesFrom(request.Get("directory")), BytesListFrom(request.Get("names"))});
    }
  }
  auto option = [&info](const char* name) {
    return info[4].IsObject() && info[4].As<Napi::Object>().Get(name).ToBoolean();
  };
  bool revalidates = option("revalidates");
  bool lookUpDirectories = option("lookUpDirectories");
  return OnLane<std::vector<DirectoryFacts>>(
      info[0],
      [overlay, layers = std::move(layers), requests = std::move(requests), revalidates,
       lookUpDirectories](SysError& error) {
        std::vector<DirectoryFacts> facts;
        Examiner examiner(overlay->get(), layers, revalidates, lookUpDirectories, error);
        for (const Request& request : requests) {
          if (!error) facts.push_back(examiner.Directory(request));
        }
        return facts;
      },
      [](Napi::Env env, std::vector<DirectoryFacts>& facts) -> Napi::Value {
        Napi::Array list = Napi::Array::New(env, facts.size());
        for (uint32_t i = 0; i < facts.size(); i++) {
          Napi::HandleScope scope(env);
          list.Set(i, FactsTo(env, facts[i]));
        }
        return list;
      });
}

}  // namespace

void ExportExamine(Napi::Env env, Napi::Object exports) { ExportFunction<Examine>(env, exports, "examine"); }

}  // namespace lowerwatch
