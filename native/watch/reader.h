// SPDX-License-Identifier: MIT
// The thread of one watcher: owns every mark and descriptor, reads events, walks trees, answers commands.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "watch/decode.h"
#include "watch/handles.h"
#include "watch/mailbox.h"
#include "watch/marks.h"
#include "watch/tree.h"

namespace lowerwatch {

// After that many reads of one descriptor in a row others get their turn.
inline constexpr int maxReads = 64;

class Reader final : public Tree::Listener {
 public:
  Reader(std::shared_ptr<Mailbox> mailbox, SharedFd wake, size_t maxHandles);
  ~Reader() override;

  // Returns when the mailbox says stop.
  void Run();

 private:
  // reader.cc: the loop
  bool TakeCommands();
  void RegisterSources();
  void Register(int fd, int& registered);
  int Timeout() const;
  void Walk();
  void Publish();
  void CheckRoots();
  void Flush();

  // reader_layers.cc: commands
  void AddLayer(const Command& command);
  void RemoveLayer(const Command& command);
  void Rescan(const Command& command);
  // Arms what can be armed at once; "" or the reason why this scope cannot be used.
  std::string Try(Layer& layer, Scope scope, bool last);
  std::string TryFilesystem(Layer& layer);
  std::string TryTree(Layer& layer, Marks& marks, int openError, const char* opening, bool last);
  void Armed(Layer& layer);
  void CollectFilesystemLayers();
  LayerState StateOf(const Layer& layer) const;

  // reader_fanotify.cc
  // False when there may be more to read.
  bool ReadFanotify();
  void OnFanotify(const FanEvent& event);
  // False when the directory lies in no layer.
  bool OnRecord(const FanEvent& event, const FanRecord& record, uint32_t kinds);
  void ReportRename(const FanEvent& event);
  void OnDirectoryRename(const FanRecord* from, const FanRecord* to);
  struct Place {
    Layer* layer;
    std::string path;
    // Null for scope `filesystem`.
    Node* node;
  };
  // Every layer in which the directory lies, and where.
  const std::vector<Place>& PlacesOf(std::string_view key);
  void Overflow(bool inotify);

  // reader_inotify.cc
  bool ReadInotify();
  void OnInotify(const InotifyEvent& event);
  void OnInotifyNode(const InotifyEvent& event, Node* node);

  void Report(Layer& layer, const std::string& directory, std::string_view name, uint32_t kinds);
  void Found(const Layer& layer, const std::string& directory, std::string_view name, uint32_t kind) override;
  void RootGone(Layer& layer) override;

  std::shared_ptr<Mailbox> mailbox_;
  SharedFd wake_;
  ScopedFd epoll_;
  const int pid_;
  FanGroup group_;
  InodeMarks inodeMarks_;
  InotifyMarks inotifyMarks_;
  HandleCache handles_;
  std::map<int, std::unique_ptr<Layer>> layers_;
  std::vector<Layer*> filesystemLayers_;
  // Promises of layers whose first walk is under way.
  std::map<int, uint64_t> arming_;
  // Promises that are kept when all that happened before them has been read and walked.
  std::vector<uint64_t> flushes_;
  std::vector<Place> places_;
  std::vector<char> buffer_;
  int registeredFanotify_ = -1;
  int registeredInotify_ = -1;
  int64_t readAtNs_ = 0;
  int64_t detachedAtNs_ = 0;
  int64_t rootsCheckedAtNs_ = 0;
  // A directory was removed: it may have been the root of a layer.
  bool directoryRemoved_ = false;
};

}  // namespace lowerwatch
