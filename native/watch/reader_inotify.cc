// SPDX-License-Identifier: MIT
// inotify events to changes.
#include <cstring>
#include <vector>

#include "watch/kind.h"
#include "watch/reader.h"

namespace lowerwatch {

namespace {

// inotify does not tell who made a change: our own are known by their name.
constexpr std::string_view nudgePrefix = ".lowerwatch-nudge.";

uint32_t InotifyKinds(uint32_t mask) {
  uint32_t kinds = 0;
  if (mask & IN_CREATE) kinds |= kind::create;
  if (mask & IN_DELETE) kinds |= kind::remove;
  if (mask & IN_MOVED_FROM) kinds |= kind::movedFrom;
  if (mask & IN_MOVED_TO) kinds |= kind::movedTo;
  if (mask & IN_ATTRIB) kinds |= kind::attributes;
  if (mask & IN_MODIFY) kinds |= kind::modify;
  if (mask & IN_ISDIR) kinds |= kind::directory;
  return kinds;
}

}  // namespace

bool Reader::ReadInotify() {
  for (int i = 0; i < maxReads; i++) {
    ssize_t length = read(inotifyMarks_.fd(), buffer_.data(), buffer_.size());
    if (length < 0 && errno == EINTR) continue;
    if (length < 0 && errno == EAGAIN) return true;
    readAtNs_ = MonotonicNs();
    if (length <= 0) {
      Overflow(true);
      return true;
    }
    std::string_view bytes(buffer_.data(), static_cast<size_t>(length));
    InotifyEvent event;
    Decoded decoded;
    while ((decoded = DecodeInotifyEvent(bytes, event)) == Decoded::event) OnInotify(event);
    if (decoded == Decoded::malformed) Overflow(true);
  }
  return false;
}

void Reader::OnInotify(const InotifyEvent& event) {
  mailbox_->counters.eventsRead++;
  if ((event.mask & IN_Q_OVERFLOW) != 0) {
    Overflow(true);
    return;
  }
  auto found = inotifyMarks_.nodes.find(InotifyMarks::KeyOf(event.watch));
  if (found == inotifyMarks_.nodes.end()) {
    // Of a watch that was given back while its events were queued.
    mailbox_->counters.eventsOutside++;
    return;
  }
  if (event.name.substr(0, nudgePrefix.size()) == nudgePrefix) {
    mailbox_->counters.eventsOwn++;
    return;
  }
  const std::vector<Node*> nodes = found->second;
  for (Node* node : nodes) OnInotifyNode(event, node);
}

void Reader::OnInotifyNode(const InotifyEvent& event, Node* node) {
  Tree& tree = *node->tree;
  bool root = node == tree.root();
  if ((event.mask & (IN_UNMOUNT | IN_DELETE_SELF)) != 0 && root) RootGone(tree.layer());
  if ((event.mask & IN_IGNORED) != 0) {
    tree.MarkGone(node);
    return;
  }
  std::string path;
  // What happens in a directory while it is being renamed is covered by the rename, which is yet to be reported.
  bool placed = tree.PathOf(node, path);
  uint32_t kinds = InotifyKinds(event.mask);
  if (event.name.empty()) {
    // Any other directory's own events are told with its name by the directory above.
    if (root) Report(tree.layer(), "", "", kinds);
    return;
  }
  if (placed && (event.mask & (IN_MOVED_TO | IN_ISDIR)) == (IN_MOVED_TO | IN_ISDIR)) {
    const std::string* from = tree.DetachedFrom(event.cookie);
    std::string to = path.empty() ? std::string(event.name) : path + '/' + std::string(event.name);
    // Before its second name is reported, so not later than that.
    if (from != nullptr) mailbox_->Rename(tree.layer().id, *from, to);
  }
  if (placed) Report(tree.layer(), path, event.name, kinds);
  if ((event.mask & IN_ISDIR) == 0) return;
  if ((event.mask & IN_MOVED_FROM) != 0) {
    tree.Detach(node, event.name, event.cookie);
    detachedAtNs_ = readAtNs_;
  } else if ((event.mask & IN_MOVED_TO) != 0) {
    tree.Attach(event.cookie, node, event.name);
  } else if ((event.mask & IN_CREATE) != 0) {
    tree.Look(node, event.name);
  } else {
    tree.LookIfKnown(node, event.name);
  }
}

}  // namespace lowerwatch
