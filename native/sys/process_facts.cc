// SPDX-License-Identifier: MIT
// One process. Everything is read relative to one descriptor of /proc/PID: when the process ends, that answers ESRCH
// or ENOENT and never with another process that got its number.
#include "sys/process_facts.h"

#include <fcntl.h>
#include <unistd.h>

#include <charconv>
#include <string_view>

#include "core/handle.h"
#include "sys/directory.h"

namespace lowerwatch {

int ReadProcLink(int directory, const char* name, std::string& target) {
  // The kernel gives at most a page (do_proc_readlink), which has 64 KiB on some machines.
  char buffer[65536];
  ssize_t length = readlinkat(directory, name, buffer, sizeof(buffer));
  if (length < 0) return errno;
  target.assign(buffer, static_cast<size_t>(length));
  return 0;
}

int ReadProcFile(int directory, const char* name, std::string& text) {
  Fd file(openat(directory, name, O_RDONLY | O_CLOEXEC));
  if (file.get() < 0) return errno;
  char buffer[16384];
  for (;;) {
    ssize_t length = read(file.get(), buffer, sizeof(buffer));
    if (length < 0) return errno;
    if (length == 0) return 0;
    text.append(buffer, static_cast<size_t>(length));
  }
}

namespace {

// The number after "name:" of fdinfo.
template <class T>
T Field(std::string_view text, std::string_view name, int base, T otherwise) {
  size_t at = text.find(name);
  if (at == std::string_view::npos) return otherwise;
  at = text.find_first_not_of(" \t", at + name.size());
  if (at == std::string_view::npos) return otherwise;
  T number = otherwise;
  std::from_chars(text.data() + at, text.data() + text.size(), number, base);
  return number;
}

// memfd_create(2) links read "/memfd:NAME (deleted)": no file of any mount.
bool IsMemfd(std::string_view link) { return link.starts_with("/memfd:") && link.ends_with(" (deleted)"); }

class Reader {
 public:
  Reader(int directory, ProcessFacts& facts, SysError& error) : directory_(directory), facts_(facts), error_(error) {}

  // False when the process is gone or its links may not be read: nothing else may be read then either.
  bool Links() {
    return Required("ns/mnt", facts_.mountNamespace) && Required("root", facts_.root) && Required("cwd", facts_.cwd);
  }

  void Command() {
    Optional("read", "comm", ReadProcFile(directory_, "comm", facts_.command));
    if (facts_.command.ends_with('\n')) facts_.command.pop_back();
  }

  void MountTable(ProcessSurvey& survey) {
    std::string key = facts_.mountNamespace + " " + facts_.root;
    if (survey.tables.contains(key)) return;
    std::string text;
    int failed = ReadProcFile(directory_, "mountinfo", text);
    // EINVAL: it is about to end and has left its namespace already (mounts_open_common).
    if (failed == EINVAL) return;
    Optional("read", "mountinfo", failed);
    if (failed) return;
    facts_.mountTable = std::move(text);
    survey.tables.insert(std::move(key));
  }

  void Descriptors() {
    Fd list(openat(directory_, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    int failed = list.get() < 0 ? errno : 0;
    if (!failed) failed = ReadEntries(list.get(), [&](const DirectoryEntry& entry) { Descriptor(list.get(), entry); });
    Optional("getdents64", "fd", failed);
  }

  // What may fail without making the rest worthless. ENAMETOOLONG: a path of more than a page.
  void Optional(const char* syscall, const std::string& name, int failed) {
    if (IsDenied(failed) || failed == ENAMETOOLONG) {
      facts_.unreadable = true;
    } else if (failed && !IsGone(failed) && !error_) {
      error_ = Failure(syscall, "/proc/" + std::to_string(facts_.pid) + "/" + name, failed);
    }
  }

  bool IsGoneNow() const { return gone_; }

 private:
  bool Required(const char* name, std::string& target) {
    int failed = ReadProcLink(directory_, name, target);
    gone_ = gone_ || IsGone(failed);
    Optional("readlinkat", name, failed);
    return failed == 0 || failed == ENAMETOOLONG;
  }

  void Descriptor(int list, const DirectoryEntry& entry) {
    std::string name(entry.name);
    DescriptorFacts facts;
    int failed = ReadProcLink(list, name.c_str(), facts.link);
    if (failed) return Optional("readlinkat", "fd/" + name, failed);
    // Pipes, sockets and anonymous inodes are on no mount that anybody can see.
    if (!facts.link.starts_with('/') || IsMemfd(facts.link)) return;
    Fd info(openat(directory_, ("fdinfo/" + name).c_str(), O_RDONLY | O_CLOEXEC));
    // What is asked for stands first (fs/proc/fd.c, seq_show); locks and marks follow.
    char text[512];
    ssize_t length = info.get() < 0 ? -1 : read(info.get(), text, sizeof(text));
    if (length < 0) return Optional("read", "fdinfo/" + name, errno);
    std::string_view fields(text, static_cast<size_t>(length));
    std::from_chars(name.data(), name.data() + name.size(), facts.number);
    facts.mountId = Field<int32_t>(fields, "\nmnt_id:", 10, -1);
    facts.flags = Field<uint32_t>(fields, "\nflags:", 8, 0);
    facts_.descriptors.push_back(std::move(facts));
  }

  int directory_;
  ProcessFacts& facts_;
  SysError& error_;
  bool gone_ = false;
};

}  // namespace

void SurveyProcess(int proc, uint32_t pid, bool maps, ProcessSurvey& survey, SysError& error) {
  ProcessFacts facts;
  facts.pid = pid;
  Fd directory(openat(proc, std::to_string(pid).c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (directory.get() < 0 && IsGone(errno)) return;
  Reader reader(directory.get(), facts, error);
  if (directory.get() < 0) {
    reader.Optional("openat", "", errno);
  } else if (reader.Links()) {
    reader.Command();
    reader.MountTable(survey);
    reader.Descriptors();
    if (maps) reader.Optional("read", "maps", SurveyMaps(directory.get(), facts, survey));
  }
  if (!reader.IsGoneNow()) survey.processes.push_back(std::move(facts));
}

}  // namespace lowerwatch
