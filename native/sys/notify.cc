// SPDX-License-Identifier: MIT
// The service manager, the peer of a socket, the clock.
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <cstddef>
#include <cstdlib>
#include <cstring>

#include "core/bytes.h"
#include "core/error.h"
#include "core/handle.h"
#include "sys/exports.h"

namespace lowerwatch {
namespace {

// sd_notify(3): one datagram to a unix socket, whose name is a path or, with '@', abstract (unix(7)).
bool Notify(const std::string& path, const std::string& state, SysError& error) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path) || (path[0] != '/' && path[0] != '@')) {
    error = Failure("sendto", "NOTIFY_SOCKET=" + path, EINVAL);
    return false;
  }
  memcpy(address.sun_path, path.data(), path.size());
  if (path[0] == '@') address.sun_path[0] = '\0';
  auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size());
  Fd socketFd(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (socketFd.get() < 0) {
    error = Failure("socket");
    return false;
  }
  if (sendto(socketFd.get(), state.data(), state.size(), MSG_NOSIGNAL, reinterpret_cast<sockaddr*>(&address),
             length) < 0) {
    error = Failure("sendto", "NOTIFY_SOCKET=" + path);
    return false;
  }
  return true;
}

Napi::Value NotifySystemd(const Napi::CallbackInfo& info) {
  const char* path = getenv("NOTIFY_SOCKET");
  if (path == nullptr || *path == '\0') return Napi::Boolean::New(info.Env(), false);
  SysError error;
  bool sent = Notify(path, info[0].ToString(), error);
  if (error) ToJsError(info.Env(), error).ThrowAsJavaScriptException();
  return Napi::Boolean::New(info.Env(), sent);
}

// SO_PEERCRED of unix(7): who the peer was when it connected.
Napi::Value PeerCredentials(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  ucred peer{};
  socklen_t length = sizeof(peer);
  int fd = info[0].IsNumber() ? info[0].As<Napi::Number>().Int32Value() : -1;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) {
    ToJsError(env, Failure("getsockopt", "SO_PEERCRED")).ThrowAsJavaScriptException();
    return env.Undefined();
  }
  Napi::Object object = Napi::Object::New(env);
  object.Set("pid", Napi::Number::New(env, peer.pid));
  object.Set("uid", Napi::Number::New(env, peer.uid));
  object.Set("gid", Napi::Number::New(env, peer.gid));
  return object;
}

Napi::Value MonotonicNs(const Napi::CallbackInfo& info) {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return Napi::BigInt::New(info.Env(), static_cast<int64_t>(now.tv_sec * 1'000'000'000 + now.tv_nsec));
}

}  // namespace

void ExportNotify(Napi::Env env, Napi::Object exports) {
  ExportFunction<NotifySystemd>(env, exports, "notifySystemd");
  ExportFunction<PeerCredentials>(env, exports, "peerCredentials");
  ExportFunction<MonotonicNs>(env, exports, "monotonicNs");
}

}  // namespace lowerwatch
