// SPDX-License-Identifier: MIT
// The directories of one layer that are watched one by one, and the walk that arms them.
//
// Events mark positions (a directory and a name) that must be looked at; the walk looks at the state there. Neither
// the order nor the number of events matters, because fanotify merges events into older ones:
//
//   at a position     | there is a directory                     | there is none
//   ------------------+------------------------------------------+---------------------------
//   not known         | arm, then list: what is found is new     | nothing
//   known, same mark  | nothing                                  | forget it and what is below
//   known, other mark | take the new mark, look at all below     | forget it and what is below
#pragma once

#include <deque>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "watch/layer.h"

namespace lowerwatch {

struct Node {
  Tree* tree = nullptr;
  Node* parent = nullptr;
  std::string name;
  // Identity of the mark: a directory handle or an inotify watch descriptor. Empty: not armed.
  std::string key;
  std::unordered_map<std::string, Node*> children;
  bool queued = false;
  // The next visit looks at everything below, whether the mark is the same or not.
  bool deep = false;
  bool listed = false;
  // Taken out of the tree while it is queued: whoever takes it from the queue deletes it.
  bool dead = false;
};

// Marks of all layers of one kind (fanotify inode marks, or inotify watches).
class Marks {
 public:
  virtual ~Marks() = default;
  // Arms the open directory and says which mark it has. 0 or errno.
  virtual int Arm(const Layer& layer, int fd, std::string& key) = 0;
  // No node has this mark any more. The directory may be gone or lie outside of the layer by now.
  virtual void Disarm(const Layer& layer, const std::string& key) = 0;
  // Name of the limit behind ENOSPC.
  virtual const char* LimitName() const = 0;

  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view key) const { return std::hash<std::string_view>{}(key); }
  };
  // One node per layer at most.
  std::unordered_map<std::string, std::vector<Node*>, Hash, std::equal_to<>> nodes;
};

class Tree {
 public:
  // Receives what the walk finds.
  class Listener {
   public:
    virtual ~Listener() = default;
    virtual void Found(const Layer& layer, const std::string& directory, std::string_view name, uint32_t kind) = 0;
    virtual void RootGone(Layer& layer) = 0;
  };

  Tree(Layer& layer, Marks& marks, Listener& listener);
  ~Tree();

  // A directory may be at this position: look there.
  void Look(Node* parent, std::string_view name);
  // A directory was there, and may be no more.
  void LookIfKnown(Node* parent, std::string_view name);
  // A directory was renamed within the layer: paths below follow at once, and both positions are looked at.
  void Rename(Node* from, std::string_view oldName, Node* to, std::string_view newName);
  // inotify tells a rename in two events, which belong together by their cookie.
  void Detach(Node* from, std::string_view name, uint32_t cookie);
  void Attach(uint32_t cookie, Node* to, std::string_view name);
  // Where it was detached; null when it was not.
  const std::string* DetachedFrom(uint32_t cookie) const;
  // What was detached and not attached again has left the layer. Too early is not wrong, only dearer.
  void DropDetached();
  // A mark went by itself (its directory was removed).
  void MarkGone(Node* node);
  // Events were lost: look at every directory.
  void LookAtAll();
  // Something may have changed at or below `path` without an event.
  void LookBelow(std::string_view path);
  // Visits one directory of the queue; false when there is none left.
  bool Step();

  bool idle() const { return queue_.empty(); }
  bool hasDetached() const { return !detached_.empty(); }
  // False for a directory that is detached.
  bool PathOf(const Node* node, std::string& path) const;
  Node* root() const { return root_; }
  Layer& layer() const { return layer_; }
  void Describe(LayerState& state) const;
  size_t armed() const { return armed_; }

  // The initial walk is over: a directory that is armed from now on is reported as dirty, with the names in it as
  // created, because whoever looked at it before it was armed may have missed something.
  bool armedOnce = false;
  // Something that Describe tells has changed.
  bool changed = true;

 private:
  void Queue(Node* node, bool deep);
  Node* Add(Node* parent, std::string_view name);
  void Link(Node* node, Node* parent, std::string_view name);
  void Unlink(Node* node);
  void Drop(Node* node);
  void Visit(Node* node);
  void List(Node* node, int fd, const std::string& path, bool deep, bool announce);
  void RetryUnwatched();
  bool TakeMark(Node* node, const std::string& key);
  void ReleaseMark(Node* node, bool disarm);
  void Refuse(Node* node, const std::string& reason);

  Layer& layer_;
  Marks& marks_;
  Listener& listener_;
  Node* root_;
  size_t armed_ = 0;
  std::deque<Node*> queue_;
  struct Detached {
    Node* node;
    std::string path;
  };
  std::unordered_map<uint32_t, Detached> detached_;
  // Directories that could not be armed: nothing below them is watched.
  std::set<Node*> unwatched_;
  std::string unwatchedReason_;
  // A directory could not be looked at because it was detached.
  bool missed_ = false;
  // Marks given back since directories that could not be armed were last tried again.
  size_t freed_ = 0;
};

}  // namespace lowerwatch
