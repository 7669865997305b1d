// SPDX-License-Identifier: MIT
// A new overlay superblock as a detached mount: fsopen(2), fsconfig(2), fsmount(2), Linux 5.2.
//
// How a layer's path reaches overlayfs (seen on 6.18): FSCONFIG_SET_STRING takes 255 bytes at most; `lowerdir+`
// and `datadir+` (6.8) take the path as it is, `upperdir` and `workdir` take off one level of backslashes,
// `lowerdir` also splits at colons. A longer path is given as a descriptor (6.13), which mountinfo shows by its
// real path, else by the name of that descriptor in /proc/self/fd.
#include <sys/stat.h>
#include <unistd.h>

#include <optional>
#include <utility>
#include <vector>

#include "core/bytes.h"
#include "core/handle.h"
#include "core/lane.h"
#include "sys/exports.h"
#include "sys/fs_context.h"
#include "sys/kernel.h"
#include "sys/resolve.h"

namespace lowerwatch {
namespace {

constexpr size_t kLongestString = 255;

struct Overlay {
  std::vector<std::string> lower;
  std::vector<std::string> dataOnly;
  // What these lead to; empty: whatever is there.
  std::vector<SharedFd> expected;
  bool hasUpper = false;
  std::string upper;
  std::string work;
  std::vector<std::pair<std::string, std::optional<std::string>>> options;
  unsigned attributes = 0;
  bool readOnly = false;
  bool oneString = false;
};

bool IsSame(int a, int b) {
  struct stat one {}, other {};
  return fstat(a, &one) == 0 && fstat(b, &other) == 0 && one.st_dev == other.st_dev && one.st_ino == other.st_ino;
}

// One overlay being configured. Every step does nothing once `error` is set.
class Context {
 public:
  Context(SysError& error, bool plus)
      : error_(error), plus_(plus), fd_(static_cast<int>(syscall(SYS_fsopen, "overlay", FSOPEN_CLOEXEC))) {
    if (fd_.get() < 0) error_ = Failure("fsopen", "overlay");
  }

  void Set(unsigned command, const char* key, const char* value = nullptr, int aux = 0) {
    if (!error_) FsConfig(fd_.get(), command, key, value, aux, error_);
  }

  // `expected`: the directory that `path` must lead to; null: whatever is there.
  void Layer(const char* key, const std::string& path, bool unescaped, const SharedFd& expected = nullptr) {
    if (error_) return;
    if (path.find('\0') != std::string::npos) {
      error_ = PathFailure("fsconfig", path, EINVAL);
      return;
    }
    std::string text = unescaped ? Escape(path, "\\") : path;
    if (expected && !Expect(path, expected)) return;
    // Given as it was opened the path cannot be exchanged any more.
    SysError none;
    if (expected && FsConfig(fd_.get(), FSCONFIG_SET_FD, key, nullptr, kept_.back()->get(), none) == 0) return;
    if (Fits(text)) return Set(FSCONFIG_SET_STRING, key, text.c_str());
    int fd = Keep(path);
    if (fd < 0) return;
    SysError first;
    if (FsConfig(fd_.get(), FSCONFIG_SET_FD, key, nullptr, fd, first) == 0) return;
    Set(FSCONFIG_SET_STRING, key, ProcName(fd).c_str());
  }

  // Opens the layer, and keeps it open.
  bool Expect(const std::string& path, const SharedFd& expected) {
    int fd = Keep(path);
    if (fd >= 0 && !IsSame(fd, expected->get())) error_ = PathFailure("fsconfig", path, ESTALE);
    return !error_;
  }

  // `lowerdir=a:b::data`, for kernels without `lowerdir+`.
  void AllLayers(const Overlay& overlay) {
    std::string text = Join(overlay, false);
    if (!Fits(text)) text = Join(overlay, true);
    if (!error_ && text.size() > kLongestString) {
      error_ = Failure("fsconfig", "lowerdir: more layers than one string of 255 bytes can name", ENAMETOOLONG);
    }
    Set(FSCONFIG_SET_STRING, "lowerdir", text.c_str());
  }

  SharedFd Mount(unsigned attributes) {
    Set(FSCONFIG_CMD_CREATE, nullptr);
    if (error_) return nullptr;
    int mount = static_cast<int>(syscall(SYS_fsmount, fd_.get(), FSMOUNT_CLOEXEC, attributes));
    if (mount >= 0) return std::make_shared<Fd>(mount);
    error_ = Failure("fsmount");
    return nullptr;
  }

 private:
  // Before 6.5 a value with a comma is refused too.
  bool Fits(const std::string& text) const {
    return text.size() <= kLongestString && (plus_ || text.find(',') == std::string::npos);
  }

  static std::string Escape(const std::string& path, std::string_view special) {
    std::string text;
    for (char c : path) {
      if (special.find(c) != std::string_view::npos) text += '\\';
      text += c;
    }
    return text;
  }

  static std::string ProcName(int fd) { return "/proc/self/fd/" + std::to_string(fd); }

  // Opens a layer until the overlay is made. Follows links, as a mount would.
  int Keep(const std::string& path) {
    auto fd = std::make_shared<Fd>(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (fd->get() < 0) {
      error_ = PathFailure("open", path);
      return -1;
    }
    kept_.push_back(fd);
    return fd->get();
  }

  std::string Join(const Overlay& overlay, bool shorten) {
    std::string text;
    auto add = [&](const std::string& path, const char* separator) {
      if (error_) return;
      if (!text.empty()) text += separator;
      int fd = shorten ? Keep(path) : -1;
      text += fd < 0 ? Escape(path, "\\:") : ProcName(fd);
    };
    for (const auto& path : overlay.lower) add(path, ":");
    for (const auto& path : overlay.dataOnly) add(path, "::");
    return text;
  }

  SysError& error_;
  // The kernel has `lowerdir+`.
  bool plus_;
  Fd fd_;
  std::vector<SharedFd> kept_;
};

// A kernel that knows the key looks for the layer and misses it. Without it (6.5) the key is refused with EINVAL;
// before 6.5 overlayfs reads no option until the mount is made, and every key is accepted.
bool HasLowerdirAdd() {
  Fd fd(static_cast<int>(syscall(SYS_fsopen, "overlay", FSOPEN_CLOEXEC)));
  const char* missing = "/proc/self/fd/none";
  return fd.get() >= 0 && syscall(SYS_fsconfig, fd.get(), FSCONFIG_SET_STRING, "lowerdir+", missing, 0) != 0 &&
         errno == ENOENT;
}

SharedFd Fresh(const Overlay& overlay, SysError& error) {
  bool plus = !overlay.oneString && HasLowerdirAdd();
  Context context(error, plus);
  size_t next = 0;
  auto expected = [&] { return next < overlay.expected.size() ? overlay.expected[next++] : nullptr; };
  if (plus) {
    for (const auto& path : overlay.lower) context.Layer("lowerdir+", path, false, expected());
    for (const auto& path : overlay.dataOnly) context.Layer("datadir+", path, false, expected());
  } else {
    for (const auto* paths : {&overlay.lower, &overlay.dataOnly})
      for (const auto& path : *paths)
        if (SharedFd directory = expected(); directory && !error) context.Expect(path, directory);
    context.AllLayers(overlay);
  }
  if (overlay.hasUpper) {
    context.Layer("upperdir", overlay.upper, true);
    context.Layer("workdir", overlay.work, true);
  }
  for (const auto& [name, value] : overlay.options) {
    context.Set(value ? FSCONFIG_SET_STRING : FSCONFIG_SET_FLAG, name.c_str(), value ? value->c_str() : nullptr);
  }
  if (overlay.readOnly) context.Set(FSCONFIG_SET_FLAG, "ro");
  return context.Mount(overlay.attributes);
}

Overlay OverlayFrom(const Napi::Object& object) {
  Overlay overlay;
  overlay.lower = BytesListFrom(object.Get("lower"));
  overlay.dataOnly = BytesListFrom(object.Get("dataOnly"));
  if (object.Get("expected").IsArray()) {
    Napi::Array expected = object.Get("expected").As<Napi::Array>();
    for (uint32_t i = 0; i < expected.Length(); i++) overlay.expected.push_back(Handle::From(expected.Get(i)));
  }
  if (object.Get("upper").IsObject()) {
    Napi::Object upper = object.Get("upper").As<Napi::Object>();
    overlay.hasUpper = true;
    overlay.upper = BytesFrom(upper.Get("upper"));
    overlay.work = BytesFrom(upper.Get("work"));
  }
  if (object.Get("options").IsArray()) {
    Napi::Array options = object.Get("options").As<Napi::Array>();
    for (uint32_t i = 0; i < options.Length(); i++) {
      Napi::Array pair = options.Get(i).As<Napi::Array>();
      std::optional<std::string> value;
      if (pair.Get(1u).IsString()) value = BytesFrom(pair.Get(1u));
      overlay.options.emplace_back(BytesFrom(pair.Get(0u)), value);
    }
  }
  if (object.Get("mountAttributes").IsNumber()) {
    overlay.attributes = object.Get("mountAttributes").As<Napi::Number>().Uint32Value();
  }
  overlay.readOnly = object.Get("readOnly").ToBoolean();
  overlay.oneString = object.Get("oneString").ToBoolean();
  return overlay;
}

Napi::Value FreshOverlay(const Napi::CallbackInfo& info) {
  if (!info[1].IsObject()) {
    Napi::TypeError::New(info.Env(), "expected an overlay description").ThrowAsJavaScriptException();
    return info.Env().Undefined();
  }
  return OnLane<SharedFd>(
      info[0],
      [overlay = OverlayFrom(info[1].As<Napi::Object>())](SysError& error) { return Fresh(overlay, error); },
      [](Napi::Env env, SharedFd& fd) { return Handle::New(env, fd); });
}

}  // namespace

void ExportFreshOverlay(Napi::Env env, Napi::Object exports) {
  ExportFunction<FreshOverlay>(env, exports, "freshOverlay");
}

}  // namespace lowerwatch
