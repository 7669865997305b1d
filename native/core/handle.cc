// SPDX-License-Identifier: MIT
#include "core/handle.h"

#include "core/addon.h"

namespace lowerwatch {

Napi::Function Handle::Define(Napi::Env env) {
  return DefineClass(env, "Handle",
                     {InstanceAccessor<&Handle::Number>("fd"), InstanceMethod<&Handle::Close>("close")});
}

Handle::Handle(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Handle>(info) {
  if (info.Length() == 1 && info[0].IsExternal()) {
    fd_ = std::move(*info[0].As<Napi::External<SharedFd>>().Data());
  } else {
    Napi::TypeError::New(info.Env(), "a Handle comes from the functions that open").ThrowAsJavaScriptException();
  }
}

Napi::Value Handle::New(Napi::Env env, SharedFd fd) {
  return AddonData::Of(env)->handle.New({Napi::External<SharedFd>::New(env, &fd)});
}

SharedFd Handle::From(const Napi::Value& value) {
  Napi::Env env = value.Env();
  if (value.IsObject() && value.As<Napi::Object>().InstanceOf(AddonData::Of(env)->handle.Value())) {
    // Null while a worker is being terminated. Lane::Enqueue fails then too, so no call is made without a descriptor.
    Handle* handle = Unwrap(value.As<Napi::Object>());
    if (handle == nullptr || handle->fd_) return handle == nullptr ? nullptr : handle->fd_;
    Napi::TypeError::New(env, "the Handle is closed").ThrowAsJavaScriptException();
    return nullptr;
  }
  Napi::TypeError::New(env, "expected a Handle").ThrowAsJavaScriptException();
  return nullptr;
}

Napi::Value Handle::Number(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), fd_ ? fd_->get() : -1);
}

void Handle::Close(const Napi::CallbackInfo&) { fd_.reset(); }

}  // namespace lowerwatch
