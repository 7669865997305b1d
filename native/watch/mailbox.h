// SPDX-License-Identifier: MIT
// What the reader thread and the JavaScript thread share: changes and answers one way, commands the other.
#pragma once

#include <node_api.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/handle.h"
#include "watch/layer.h"
#include "watch/pending.h"

namespace lowerwatch {

struct Command {
  enum class Kind { add, remove, rescan, flush } kind = Kind::add;
  // Number of the promise that this settles.
  uint64_t id = 0;
  int layer = 0;
  SharedFd root;
  std::vector<Scope> scopes;
  std::vector<std::string> modifyNames;
  size_t maxDirectories = 0;
  Reflex reflex;
  // Of rescan: a directory in the layer.
  std::string directory;
};

struct Answer {
  uint64_t id = 0;
  SysError error;
  LayerState state;
};

// Written by the reader thread without a lock.
struct Counters {
  std::atomic<uint64_t> eventsRead{0};
  std::atomic<uint64_t> eventsOutside{0};
  std::atomic<uint64_t> eventsOwn{0};
  std::atomic<uint64_t> overflows{0};
  std::atomic<uint64_t> directoriesWatched{0};
  std::atomic<uint64_t> cachedHandles{0};
  std::atomic<uint64_t> batches{0};
};

struct Mailbox {
  Mailbox(size_t maxNames, size_t maxDirectories) : pending(maxNames, maxDirectories) {}

  std::mutex mutex;
  std::condition_variable ended;
  // All of these under the mutex.
  Pending pending;
  std::deque<Command> commands;
  std::vector<Answer> answers;
  std::vector<Reflex::Refreshed> refreshed;
  std::map<int, LayerState> states;
  bool stop = false;
  bool finished = false;
  // True while a call to JavaScript is on its way: what comes in the meantime goes with it.
  bool signalled = false;
  napi_threadsafe_function callback = nullptr;
  // CPU time of the reader thread once it has ended.
  int64_t readerCpuNs = 0;

  Counters counters;

  // With the mutex held.
  void Signal() {
    if (signalled || stop) return;
    signalled = true;
    napi_call_threadsafe_function(callback, nullptr, napi_tsfn_nonblocking);
  }

  void Change(int layer, std::string_view directory, std::string_view name, uint32_t kind, int64_t readAtNs) {
    std::lock_guard<std::mutex> lock(mutex);
    pending.Add(layer, directory, name, kind, readAtNs);
    Signal();
  }

  void Rename(int layer, std::string from, std::string to) {
    std::lock_guard<std::mutex> lock(mutex);
    pending.AddRename(layer, std::move(from), std::move(to));
  }

  void Refreshed(const Reflex::Refreshed& what) {
    std::lock_guard<std::mutex> lock(mutex);
    refreshed.push_back(what);
  }

  void ChangeLayer(int layer, uint32_t kind, int64_t readAtNs) {
    std::lock_guard<std::mutex> lock(mutex);
    pending.AddLayer(layer, kind, readAtNs);
    Signal();
  }

  void Reply(Answer answer) {
    std::lock_guard<std::mutex> lock(mutex);
    answers.push_back(std::move(answer));
    Signal();
  }
};

}  // namespace lowerwatch
