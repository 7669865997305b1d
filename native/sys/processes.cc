// SPDX-License-Identifier: MIT
// The processes of /proc for JavaScript.
#include <fcntl.h>
#include <unistd.h>

#include <charconv>

#include "core/bytes.h"
#include "core/handle.h"
#include "core/lane.h"
#include "sys/directory.h"
#include "sys/exports.h"
#include "sys/process_facts.h"

namespace lowerwatch {
namespace {

std::vector<uint32_t> ProcessIds(SysError& error) {
  std::vector<uint32_t> pids;
  Fd proc(open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (proc.get() < 0) {
    error = Failure("open", "/proc");
    return pids;
  }
  int failed = ReadEntries(proc.get(), [&](const DirectoryEntry& entry) {
    uint32_t pid = 0;
    const char* end = entry.name.data() + entry.name.size();
    auto result = std::from_chars(entry.name.data(), end, pid);
    if (result.ec == std::errc() && result.ptr == end) pids.push_back(pid);
  });
  if (failed) error = Failure("getdents64", "/proc", failed);
  return pids;
}

ProcessSurvey Survey(const std::vector<uint32_t>& pids, bool maps, SysError& error) {
  ProcessSurvey survey;
  Fd proc(open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (proc.get() < 0) error = Failure("open", "/proc");
  for (uint32_t pid : pids) {
    if (error) break;
    SurveyProcess(proc.get(), pid, maps, survey, error);
  }
  return survey;
}

Napi::Value NumbersTo(Napi::Env env, std::vector<uint32_t>& numbers) {
  Napi::Array list = Napi::Array::New(env, numbers.size());
  for (uint32_t i = 0; i < numbers.size(); i++) list.Set(i, Napi::Number::New(env, numbers[i]));
  return list;
}

Napi::Object DescriptorTo(Napi::Env env, const DescriptorFacts& facts) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("number", Napi::Number::New(env, facts.number));
  object.Set("mountId", Napi::Number::New(env, facts.mountId));
  object.Set("flags", Napi::Number::New(env, facts.flags));
  object.Set("link", BytesTo(env, facts.link));
  return object;
}

Napi::Object FileTo(Napi::Env env, const MappedFile& file) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("devMajor", Napi::Number::New(env, file.devMajor));
  object.Set("devMinor", Napi::Number::New(env, file.devMinor));
  object.Set("path", BytesTo(env, file.path));
  return object;
}

Napi::Object ProcessTo(Napi::Env env, const ProcessFacts& facts, const std::vector<Napi::Object>& files) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("pid", Napi::Number::New(env, facts.pid));
  object.Set("unreadable", Napi::Boolean::New(env, facts.unreadable));
  object.Set("command", BytesTo(env, facts.command));
  object.Set("mountNamespace", BytesTo(env, facts.mountNamespace));
  object.Set("root", BytesTo(env, facts.root));
  object.Set("cwd", BytesTo(env, facts.cwd));
  object.Set("mountTable", facts.mountTable ? BytesTo(env, *facts.mountTable) : env.Null());
  Napi::Array descriptors = Napi::Array::New(env, facts.descriptors.size());
  for (uint32_t i = 0; i < facts.descriptors.size(); i++) descriptors.Set(i, DescriptorTo(env, facts.descriptors[i]));
  object.Set("descriptors", descriptors);
  Napi::Array mapped = Napi::Array::New(env, facts.mapped.size());
  for (uint32_t i = 0; i < facts.mapped.size(); i++) mapped.Set(i, files[facts.mapped[i]]);
  object.Set("mapped", mapped);
  return object;
}

Napi::Value SurveyTo(Napi::Env env, ProcessSurvey& survey) {
  std::vector<Napi::Object> files;
  files.reserve(survey.files.size());
  for (const MappedFile& file : survey.files) files.push_back(FileTo(env, file));
  Napi::Array list = Napi::Array::New(env, survey.processes.size());
  for (uint32_t i = 0; i < survey.processes.size(); i++) {
    Napi::HandleScope scope(env);
    list.Set(i, ProcessTo(env, survey.processes[i], files));
  }
  return list;
}

Napi::Value ProcessIdsCall(const Napi::CallbackInfo& info) {
  return OnLane<std::vector<uint32_t>>(info[0], ProcessIds, NumbersTo);
}

Napi::Value ProcessesCall(const Napi::CallbackInfo& info) {
  std::vector<uint32_t> pids;
  Napi::Array list = info[1].IsArray() ? info[1].As<Napi::Array>() : Napi::Array::New(info.Env());
  for (uint32_t i = 0; i < list.Length(); i++) pids.push_back(Napi::Value(list.Get(i)).ToNumber().Uint32Value());
  bool maps = info[2].IsObject() && info[2].As<Napi::Object>().Get("maps").ToBoolean();
  return OnLane<ProcessSurvey>(
      info[0], [pids = std::move(pids), maps](SysError& error) { return Survey(pids, maps, error); }, SurveyTo);
}

}  // namespace

void ExportProcesses(Napi::Env env, Napi::Object exports) {
  ExportFunction<ProcessIdsCall>(env, exports, "processIds");
  ExportFunction<ProcessesCall>(env, exports, "processes");
}

}  // namespace lowerwatch
