// SPDX-License-Identifier: MIT
#include "watch/tree.h"

#include <algorithm>

#include "watch/kernel.h"
#include "watch/kind.h"

namespace lowerwatch {

namespace {

// More of them are described by the root of the layer: the list must stay short whatever the tree looks like.
constexpr size_t maxUnwatchedListed = 1024;

bool IsAtOrBelow(const Node* node, const Node* top) {
  while (node != nullptr && node != top) node = node->parent;
  return node != nullptr;
}

}  // namespace

Tree::Tree(Layer& layer, Marks& marks, Listener& listener) : layer_(layer), marks_(marks), listener_(listener) {
  root_ = new Node;
  root_->tree = this;
  Queue(root_, false);
}

Tree::~Tree() {
  for (auto& [cookie, detached] : detached_) Drop(detached.node);
  Drop(root_);
  for (Node* node : queue_) delete node;
}

void Tree::Look(Node* parent, std::string_view name) {
  auto found = parent->children.find(std::string(name));
  Node* node = found != parent->children.end() ? found->second : Add(parent, name);
  Queue(node, false);
}

void Tree::LookIfKnown(Node* parent, std::string_view name) {
  auto found = parent->children.find(std::string(name));
  if (found != parent->children.end()) Queue(found->second, false);
}

void Tree::Rename(Node* from, std::string_view oldName, Node* to, std::string_view newName) {
  auto found = from->children.find(std::string(oldName));
  auto replaced = to->children.find(std::string(newName));
  Node* node = found == from->children.end() ? nullptr : found->second;
  Node* target = replaced == to->children.end() ? nullptr : replaced->second;
  // Events that tell of different moments can describe what the kernel forbids.
  bool possible = node != nullptr && node != target && !IsAtOrBelow(to, node) &&
                  (target == nullptr || !IsAtOrBelow(from, target));
  if (possible) {
    if (target != nullptr) Drop(target);
    Unlink(node);
    Link(node, to, newName);
  }
  Look(to, newName);
  Look(from, oldName);
}

void Tree::Detach(Node* from, std::string_view name, uint32_t cookie) {
  auto found = from->children.find(std::string(name));
  if (found == from->children.end()) return;
  Node* node = found->second;
  std::string path;
  PathOf(node, path);
  Unlink(node);
  auto [place, added] = detached_.try_emplace(cookie, Detached{node, path});
  if (!added) {
    Drop(place->second.node);
    place->second = {node, path};
  }
}

const std::string* Tree::DetachedFrom(uint32_t cookie) const {
  auto found = detached_.find(cookie);
  return found == detached_.end() || found->second.path.empty() ? nullptr : &found->second.path;
}

void Tree::Attach(uint32_t cookie, Node* to, std::string_view name) {
  auto found = detached_.find(cookie);
  if (found != detached_.end() && !IsAtOrBelow(to, found->second.node)) {
    Node* node = found->second.node;
    detached_.erase(found);
    auto replaced = to->children.find(std::string(name));
    if (replaced != to->children.end()) Drop(replaced->second);
    Link(node, to, name);
    if (missed_) Queue(node, true);
    missed_ = !detached_.empty() && missed_;
  }
  Look(to, name);
}

void Tree::DropDetached() {
  for (auto& [cookie, detached] : detached_) Drop(detached.node);
  detached_.clear();
  missed_ = false;
  if (queue_.empty()) RetryUnwatched();
}

void Tree::MarkGone(Node* node) {
  ReleaseMark(node, false);
  Queue(node, false);
}

void Tree::LookAtAll() { Queue(root_, true); }

void Tree::LookBelow(std::string_view path) {
  Node* node = root_;
  // The deepest directory that is known: its listing leads to the rest.
  while (!path.empty()) {
    size_t slash = path.find('/');
    auto child = node->children.find(std::string(path.substr(0, slash)));
    if (child == node->children.end()) break;
    node = child->second;
    path = slash == std::string_view::npos ? std::string_view() : path.substr(slash + 1);
  }
  Queue(node, true);
}

bool Tree::Step() {
  if (queue_.empty()) return false;
  Node* node = queue_.front();
  queue_.pop_front();
  node->queued = false;
  if (node->dead) {
    delete node;
  } else {
    Visit(node);
  }
  if (queue_.empty()) RetryUnwatched();
  return true;
}

bool Tree::PathOf(const Node* node, std::string& path) const {
  size_t length = 0;
  const Node* top = node;
  for (; top->parent != nullptr; top = top->parent) length += top->name.size() + 1;
  if (top != root_) return false;
  path.assign(length == 0 ? 0 : length - 1, '/');
  size_t end = path.size();
  for (const Node* part = node; part->parent != nullptr; part = part->parent) {
    end -= part->name.size();
    path.replace(end, part->name.size(), part->name);
    if (end > 0) end--;
  }
  return true;
}

void Tree::Describe(LayerState& state) const {
  state.directories = armed_;
  state.unwatched.clear();
  state.unwatchedReason = unwatched_.empty() ? "" : unwatchedReason_;
  if (unwatched_.size() > maxUnwatchedListed) {
    state.unwatched.emplace_back();
    return;
  }
  std::string path;
  for (Node* node : unwatched_) {
    if (PathOf(node, path)) state.unwatched.push_back(path);
  }
  std::sort(state.unwatched.begin(), state.unwatched.end());
}

void Tree::Queue(Node* node, bool deep) {
  node->deep |= deep;
  if (node->queued) return;
  node->queued = true;
  queue_.push_back(node);
}

Node* Tree::Add(Node* parent, std::string_view name) {
  Node* node = new Node;
  node->tree = this;
  node->parent = parent;
  node->name = name;
  parent->children.emplace(node->name, node);
  return node;
}

void Tree::Link(Node* node, Node* parent, std::string_view name) {
  node->name = name;
  node->parent = parent;
  parent->children.emplace(node->name, node);
  changed = true;
}

void Tree::Unlink(Node* node) {
  if (node->parent != nullptr) node->parent->children.erase(node->name);
  node->parent = nullptr;
}

void Tree::Drop(Node* top) {
  Unlink(top);
  // Not recursive: the depth of a directory tree has no bound.
  std::vector<Node*> stack{top};
  while (!stack.empty()) {
    Node* node = stack.back();
    stack.pop_back();
    for (auto& [name, child] : node->children) {
      child->parent = nullptr;
      stack.push_back(child);
    }
    node->children.clear();
    ReleaseMark(node, true);
    if (unwatched_.erase(node) != 0) changed = true;
    if (node->queued) {
      node->dead = true;
    } else {
      delete node;
    }
  }
}

bool Tree::TakeMark(Node* node, const std::string& key) {
  if (node->key == key) return false;
  ReleaseMark(node, true);
  auto& holders = marks_.nodes[key];
  // One directory is at one position of a layer. What we knew of the other one is out of date.
  auto other = std::find_if(holders.begin(), holders.end(), [&](Node* holder) { return holder->tree == this; });
  if (other != holders.end()) {
    Node* loser = *other;
    loser->key.clear();
    holders.erase(other);
    armed_--;
    Queue(loser, true);
  }
  holders.push_back(node);
  node->key = key;
  armed_++;
  changed = true;
  return true;
}

void Tree::ReleaseMark(Node* node, bool disarm) {
  if (node->key.empty()) return;
  auto holders = marks_.nodes.find(node->key);
  if (holders != marks_.nodes.end()) {
    auto& list = holders->second;
    list.erase(std::remove(list.begin(), list.end(), node), list.end());
    if (list.empty()) {
      marks_.nodes.erase(holders);
      if (disarm) marks_.Disarm(layer_, node->key);
      freed_++;
    }
  }
  node->key.clear();
  armed_--;
  changed = true;
}

// Each mark given back lets one directory be tried again.
void Tree::RetryUnwatched() {
  for (Node* node : unwatched_) {
    if (freed_ == 0) return;
    freed_--;
    Queue(node, false);
  }
  freed_ = 0;
}

void Tree::Refuse(Node* node, const std::string& reason) {
  unwatched_.insert(node);
  unwatchedReason_ = reason;
  changed = true;
  node->listed = false;
  ReleaseMark(node, true);
  // Nothing below can be kept up to date without the events of this directory.
  while (!node->children.empty()) Drop(node->children.begin()->second);
}

}  // namespace lowerwatch
