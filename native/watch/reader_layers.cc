// SPDX-License-Identifier: MIT
// Layers come and go: the first scope that the kernel takes.
#include <utility>

#include "core/error.h"
#include "watch/kind.h"
#include "watch/reader.h"

namespace lowerwatch {

void Reader::AddLayer(const Command& command) {
  Answer answer;
  answer.id = command.id;
  auto layer = std::make_unique<Layer>();
  layer->id = command.layer;
  layer->maxDirectories = command.maxDirectories;
  layer->reflex = command.reflex;
  layer->modifyNames.insert(command.modifyNames.begin(), command.modifyNames.end());
  if (layers_.count(command.layer) != 0) {
    answer.error = Failure("addLayer", "this layer is watched already", EEXIST);
    mailbox_->Reply(std::move(answer));
    return;
  }
  answer.error = layer->Open(command.root);
  for (size_t i = 0; !answer.error && i < command.scopes.size(); i++) {
    Scope scope = command.scopes[i];
    layer->scope = scope;
    std::string reason = Try(*layer, scope, i + 1 == command.scopes.size());
    if (reason.empty()) {
      Layer& added = *layer;
      layers_[command.layer] = std::move(layer);
      CollectFilesystemLayers();
      arming_[command.layer] = command.id;
      if (added.tree == nullptr) Armed(added);
      return;
    }
    layer->reasons.push_back(std::string(ScopeName(scope)) + ": " + reason);
  }
  if (!answer.error) {
    std::string reasons;
    for (const std::string& reason : layer->reasons) reasons += (reasons.empty() ? "" : ", ") + reason;
    answer.error = Failure("fanotify_mark", reasons.empty() ? "no scope to try" : reasons, EOPNOTSUPP);
  }
  mailbox_->Reply(std::move(answer));
}

std::string Reader::Try(Layer& layer, Scope scope, bool last) {
  switch (scope) {
    case Scope::filesystem:
      return TryFilesystem(layer);
    case Scope::inode:
      return TryTree(layer, inodeMarks_, group_.Open(), "fanotify_init", last);
    case Scope::inotify:
      return TryTree(layer, inotifyMarks_, inotifyMarks_.Open(), "inotify_init1", last);
  }
  return "";
}

std::string Reader::TryFilesystem(Layer& layer) {
  int error = group_.Open();
  if (error != 0) return "fanotify_init " + ErrnoName(error);
  error = group_.AddFilesystem(layer);
  if (error != 0) return ErrnoName(error);
  // Without handles that can be opened (CAP_DAC_READ_SEARCH) an event could not be told from one outside.
  std::string key;
  const char* failed = "name_to_handle_at ";
  error = KeyOf(layer.readable->get(), true, key);
  if (error == 0) {
    failed = "open_by_handle_at ";
    std::string path;
    error = LocateBelow(layer, key, path);
  }
  if (error == 0) return "";
  group_.RemoveFilesystem(layer);
  return failed + ErrnoName(error);
}

std::string Reader::TryTree(Layer& layer, Marks& marks, int openError, const char* opening, bool last) {
  if (openError != 0) return std::string(opening) + " " + ErrnoName(openError);
  std::string key;
  int error = marks.Arm(layer, layer.readable->get(), key);
  // A limit that is reached leaves nothing watched, but it can be raised: only a scope still to be tried is better.
  bool passing = error == ENOSPC || error == ENOMEM || error == EACCES;
  if (error != 0 && !(passing && last)) return ErrnoName(error);
  layer.tree = std::make_unique<Tree>(layer, marks, *this);
  return "";
}

void Reader::Armed(Layer& layer) {
  if (layer.tree != nullptr) {
    layer.tree->armedOnce = true;
    layer.tree->changed = false;
  }
  Answer answer;
  answer.state = StateOf(layer);
  {
    std::lock_guard<std::mutex> lock(mailbox_->mutex);
    mailbox_->states[layer.id] = answer.state;
  }
  auto promise = arming_.find(layer.id);
  if (promise == arming_.end()) return;
  answer.id = promise->second;
  arming_.erase(promise);
  mailbox_->Reply(std::move(answer));
}

void Reader::RemoveLayer(const Command& command) {
  Answer answer;
  auto found = layers_.find(command.layer);
  if (found != layers_.end()) {
    Layer& layer = *found->second;
    auto arming = arming_.find(layer.id);
    if (arming != arming_.end()) {
      Answer cancelled;
      cancelled.id = arming->second;
      cancelled.error = Failure("addLayer", "the layer was removed", ECANCELED);
      arming_.erase(arming);
      mailbox_->Reply(std::move(cancelled));
    }
    if (layer.tree == nullptr) {
      group_.RemoveFilesystem(layer);
    } else {
      size_t sharing = 0;
      for (auto& [id, other] : layers_) sharing += other->tree != nullptr && other->scope == layer.scope;
      // The last of its kind: all marks go in one call instead of one by one.
      if (sharing == 1 && layer.scope == Scope::inode) {
        inodeMarks_.nodes.clear();
        group_.FlushInodes();
      } else if (sharing == 1) {
        inotifyMarks_.nodes.clear();
        inotifyMarks_.Close();
      }
    }
    layers_.erase(found);
    CollectFilesystemLayers();
  }
  {
    std::lock_guard<std::mutex> lock(mailbox_->mutex);
    mailbox_->pending.Forget(command.layer);
    mailbox_->states.erase(command.layer);
  }
  answer.id = command.id;
  mailbox_->Reply(std::move(answer));
}

void Reader::Rescan(const Command& command) {
  auto found = layers_.find(command.layer);
  if (found != layers_.end() && found->second->tree != nullptr) found->second->tree->LookBelow(command.directory);
}

// What lies in which layer changes with the layers.
void Reader::CollectFilesystemLayers() {
  filesystemLayers_.clear();
  for (auto& [id, layer] : layers_) {
    if (layer->tree == nullptr) filesystemLayers_.push_back(layer.get());
  }
  handles_.Clear();
}

LayerState Reader::StateOf(const Layer& layer) const {
  LayerState state;
  state.scope = layer.scope;
  state.reasons = layer.reasons;
  if (layer.tree != nullptr) layer.tree->Describe(state);
  return state;
}

}  // namespace lowerwatch
