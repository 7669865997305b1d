// SPDX-License-Identifier: MIT
#include "watch/reader.h"

#include <sys/epoll.h>

#include <utility>

#include "watch/kind.h"

namespace lowerwatch {

namespace {

constexpr size_t bufferBytes = 65536;
// Walks are cut in slices, so that events are read in between.
constexpr int64_t sliceNs = 1000000;
// Both halves of a rename lie next to each other in inotify's queue, but are not put there in one step.
constexpr int64_t detachedNs = 10000000;
// The removal of a root that we keep open gives no event on its own mark.
constexpr int64_t rootsNs = 2000000000;

}  // namespace

Reader::Reader(std::shared_ptr<Mailbox> mailbox, SharedFd wake, size_t maxHandles)
    : mailbox_(std::move(mailbox)),
      wake_(std::move(wake)),
      epoll_(epoll_create1(EPOLL_CLOEXEC)),
      pid_(getpid()),
      inodeMarks_(group_),
      handles_(maxHandles),
      buffer_(bufferBytes) {
  struct epoll_event event = {};
  event.events = EPOLLIN;
  event.data.fd = wake_->get();
  epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, wake_->get(), &event);
}

Reader::~Reader() {
  // Closing the group and the instance gives every mark back at once.
  inodeMarks_.nodes.clear();
  inotifyMarks_.nodes.clear();
  group_.Close();
  inotifyMarks_.Close();
}

void Reader::Run() {
  struct epoll_event events[3];
  for (;;) {
    int count = epoll_wait(epoll_.get(), events, 3, Timeout());
    for (int i = 0; i < count; i++) {
      int fd = events[i].data.fd;
      if (fd == wake_->get()) {
        uint64_t value;
        if (read(fd, &value, sizeof(value)) < 0) continue;
        if (!TakeCommands()) return;
      } else if (fd == group_.fd()) {
        ReadFanotify();
      } else if (fd == inotifyMarks_.fd()) {
        ReadInotify();
      }
    }
    Walk();
    if (!flushes_.empty()) Flush();
    CheckRoots();
    Publish();
  }
}

bool Reader::TakeCommands() {
  std::deque<Command> commands;
  {
    std::lock_guard<std::mutex> lock(mailbox_->mutex);
    if (mailbox_->stop) return false;
    commands.swap(mailbox_->commands);
  }
  for (const Command& command : commands) {
    switch (command.kind) {
      case Command::Kind::add:
        AddLayer(command);
        break;
      case Command::Kind::remove:
        RemoveLayer(command);
        break;
      case Command::Kind::rescan:
        Rescan(command);
        [[fallthrough]];
      case Command::Kind::flush:
        flushes_.push_back(command.id);
        break;
    }
    RegisterSources();
  }
  return true;
}

void Reader::RegisterSources() {
  Register(group_.fd(), registeredFanotify_);
  Register(inotifyMarks_.fd(), registeredInotify_);
}

void Reader::Register(int fd, int& registered) {
  // A closed descriptor leaves the set by itself.
  if (fd != registered && fd >= 0) {
    struct epoll_event event = {};
    event.events = EPOLLIN;
    event.data.fd = fd;
    epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event);
  }
  registered = fd;
}

int Reader::Timeout() const {
  bool trees = false;
  bool detached = false;
  for (auto& [id, layer] : layers_) {
    if (layer->tree == nullptr) continue;
    if (!layer->tree->idle()) return 0;
    detached |= layer->tree->hasDetached();
    trees |= !layer->gone;
  }
  if (detached) return static_cast<int>(detachedNs / 1000000);
  return trees ? static_cast<int>(rootsNs / 1000000) : -1;
}

void Reader::Walk() {
  int64_t start = 0;
  for (auto& [id, layer] : layers_) {
    Tree* tree = layer->tree.get();
    if (tree == nullptr) continue;
    if (tree->hasDetached() && MonotonicNs() - detachedAtNs_ > detachedNs) tree->DropDetached();
    if (!tree->idle() && start == 0) start = MonotonicNs();
    while (!tree->idle() && MonotonicNs() - start < sliceNs) tree->Step();
    if (tree->idle() && !tree->armedOnce) Armed(*layer);
  }
}

void Reader::Publish() {
  size_t directories = 0;
  for (auto& [id, layer] : layers_) {
    Tree* tree = layer->tree.get();
    if (tree == nullptr) continue;
    directories += tree->armed();
    if (!tree->changed || !tree->idle()) continue;
    tree->changed = false;
    LayerState state = StateOf(*layer);
    std::lock_guard<std::mutex> lock(mailbox_->mutex);
    mailbox_->states[id] = std::move(state);
  }
  mailbox_->counters.directoriesWatched = directories;
  mailbox_->counters.cachedHandles = handles_.size();
}

// The kernel queues an event within the call that makes the change: what was changed before the request is there to be
// read. A walk can be refilled by what is read, so both are repeated until there is neither.
void Reader::Flush() {
  bool drained = false;
  while (!drained) {
    drained = (group_.fd() < 0 || ReadFanotify()) && (inotifyMarks_.fd() < 0 || ReadInotify());
    for (auto& [id, layer] : layers_) {
      if (layer->tree == nullptr || layer->tree->idle()) continue;
      while (!layer->tree->idle()) layer->tree->Step();
      if (!layer->tree->armedOnce) Armed(*layer);
      drained = false;
    }
  }
  for (uint64_t id : flushes_) {
    Answer answer;
    answer.id = id;
    mailbox_->Reply(std::move(answer));
  }
  flushes_.clear();
}

void Reader::CheckRoots() {
  bool trees = false;
  for (auto& [id, layer] : layers_) trees |= layer->tree != nullptr;
  int64_t now = directoryRemoved_ || trees ? MonotonicNs() : 0;
  if (!directoryRemoved_ && now - rootsCheckedAtNs_ < rootsNs) return;
  directoryRemoved_ = false;
  rootsCheckedAtNs_ = now;
  for (auto& [id, layer] : layers_) {
    if (!layer->gone && layer->Removed()) RootGone(*layer);
  }
}

void Reader::Report(Layer& layer, const std::string& directory, std::string_view name, uint32_t kinds) {
  if ((kinds & kind::modify) != 0 && !layer.WantsModify(name)) kinds &= ~kind::modify;
  if ((kinds & ~kind::directory) == 0) return;
  // Before JavaScript is woken: it would take the processor that this needs.
  std::string path = directory;
  if (!path.empty() && !name.empty()) path += '/';
  path.append(name);
  Reflex::Refreshed refreshed = layer.reflex.OnChange(layer.id, path, readAtNs_);
  if (refreshed.spentNs > 0) mailbox_->Refreshed(refreshed);
  mailbox_->Change(layer.id, directory, name, kinds, readAtNs_);
}

void Reader::Found(const Layer& layer, const std::string& directory, std::string_view name, uint32_t kind) {
  mailbox_->Change(layer.id, directory, name, kind, MonotonicNs());
}

void Reader::RootGone(Layer& layer) {
  if (layer.gone) return;
  layer.gone = true;
  mailbox_->ChangeLayer(layer.id, kind::layerGone, MonotonicNs());
}

}  // namespace lowerwatch
