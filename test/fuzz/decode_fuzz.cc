// SPDX-License-Identifier: MIT
// Random and mutated bytes for the event decoders, under the address and undefined behaviour sanitizers:
//   g++ -std=gnu++20 -fsanitize=address,undefined -fno-sanitize-recover=all -Inative \
//     test/fuzz/decode_fuzz.cc native/watch/decode.cc -o decode_fuzz && ./decode_fuzz SEED ITERATIONS
// Prints the seed and what the decoders answered; exit 1 when an answer points outside of its input.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <string>

#include "watch/decode.h"
#include "watch/kernel.h"

using namespace lowerwatch;

namespace {

using Random = std::mt19937_64;

size_t Below(Random& random, size_t bound) { return static_cast<size_t>(random() % bound); }

template <class T>
void Append(std::string& bytes, T value) {
  bytes.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

std::string RandomBytes(Random& random, size_t length) {
  std::string bytes(length, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random());
  return bytes;
}

// What a kernel would write.
std::string ValidFanEvent(Random& random) {
  static constexpr uint8_t types[] = {FAN_EVENT_INFO_TYPE_DFID_NAME, FAN_EVENT_INFO_TYPE_OLD_DFID_NAME,
                                      FAN_EVENT_INFO_TYPE_NEW_DFID_NAME, FAN_EVENT_INFO_TYPE_DFID,
                                      FAN_EVENT_INFO_TYPE_FID, FAN_EVENT_INFO_TYPE_PIDFD, 99};
  std::string infos;
  for (size_t i = Below(random, 6); i > 0; i--) {
    std::string handle = RandomBytes(random, Below(random, 40));
    std::string name = RandomBytes(random, Below(random, 256));
    std::string body = RandomBytes(random, 8);
    Append(body, static_cast<uint32_t>(handle.size()));
    Append(body, static_cast<int32_t>(random()));
    body += handle + name + '\0';
    body.resize((body.size() + 4 + 3) / 4 * 4 - 4);
    Append(infos, types[Below(random, sizeof(types))]);
    Append(infos, uint8_t{0});
    Append(infos, static_cast<uint16_t>(body.size() + 4));
    infos += body;
  }
  struct fanotify_event_metadata header = {};
  header.event_len = static_cast<uint32_t>(sizeof(header) + infos.size());
  header.vers = FANOTIFY_METADATA_VERSION;
  header.metadata_len = sizeof(header);
  header.mask = random();
  header.fd = FAN_NOFD;
  header.pid = static_cast<int32_t>(random());
  std::string bytes;
  Append(bytes, header);
  return bytes + infos;
}

std::string ValidInotifyEvent(Random& random) {
  std::string name = RandomBytes(random, Below(random, 256)) + '\0';
  name.resize((name.size() + 15) / 16 * 16);
  struct inotify_event header = {};
  header.wd = static_cast<int>(random());
  header.mask = static_cast<uint32_t>(random());
  header.len = static_cast<uint32_t>(name.size());
  std::string bytes(reinterpret_cast<const char*>(&header), sizeof(header));
  return bytes + name;
}

void Mutate(Random& random, std::string& bytes) {
  for (size_t i = Below(random, 4); i > 0 && !bytes.empty(); i--) {
    size_t at = Below(random, bytes.size());
    switch (Below(random, 5)) {
      case 0:
        bytes[at] = static_cast<char>(random());
        break;
      case 1:
        bytes[at] = static_cast<char>(random() % 2 == 0 ? 0xff : 0);
        break;
      case 2:
        bytes.resize(at);
        break;
      case 3:
        bytes.erase(at, 1 + Below(random, 8));
        break;
      default:
        bytes.insert(at, RandomBytes(random, 1 + Below(random, 8)));
    }
  }
}

bool Inside(std::string_view part, const char* data, size_t size) {
  if (part.data() == nullptr || part.empty()) return true;
  return part.data() >= data && part.data() + part.size() <= data + size;
}

bool Check(bool ok, const char* what) {
  if (!ok) fprintf(stderr, "%s\n", what);
  return ok;
}

}  // namespace

int main(int argc, char** argv) {
  uint64_t seed = argc > 1 ? strtoull(argv[1], nullptr, 0) : 1;
  long iterations = argc > 2 ? atol(argv[2]) : 100000;
  Random random(seed);
  size_t events = 0;
  size_t malformed = 0;
  size_t ended = 0;
  for (long i = 0; i < iterations; i++) {
    bool inotify = Below(random, 4) == 0;
    std::string bytes;
    bool untouched = false;
    if (Below(random, 5) == 0) {
      bytes = RandomBytes(random, Below(random, 200));
    } else {
      for (size_t n = 1 + Below(random, 3); n > 0; n--) {
        bytes += inotify ? ValidInotifyEvent(random) : ValidFanEvent(random);
      }
      untouched = Below(random, 4) == 0;
      if (!untouched) Mutate(random, bytes);
    }
    // On the heap at exactly its size: the sanitizer sees the first byte past it.
    size_t size = bytes.size();
    std::unique_ptr<char[]> data(new char[size]);
    memcpy(data.get(), bytes.data(), size);
    std::string_view rest(data.get(), size);
    Decoded decoded = Decoded::event;
    while (decoded == Decoded::event) {
      size_t before = rest.size();
      FanEvent fan;
      InotifyEvent plain;
      decoded = inotify ? DecodeInotifyEvent(rest, plain) : DecodeFanEvent(rest, fan);
      if (decoded == Decoded::event) events++;
      if (decoded == Decoded::malformed) malformed++;
      if (decoded == Decoded::end) ended++;
      bool ok = Check(decoded != Decoded::event || rest.size() < before, "an event took no bytes");
      ok &= Check(Inside(rest, data.get(), size), "the rest lies outside of the input");
      ok &= Check(Inside(plain.name, data.get(), size), "a name lies outside of the input");
      ok &= Check(fan.count <= FanEvent::maxRecords, "too many records");
      for (size_t r = 0; ok && r < fan.count; r++) {
        ok &= Check(Inside(fan.records[r].key, data.get(), size), "a key lies outside of the input");
        ok &= Check(Inside(fan.records[r].name, data.get(), size), "a name lies outside of the input");
        ok &= Check(fan.records[r].key.size() >= keyHeader, "a key is too short");
      }
      ok &= Check(!(untouched && decoded == Decoded::malformed), "what a kernel would write is called malformed");
      if (!ok) {
        fprintf(stderr, "seed %llu iteration %ld\n", static_cast<unsigned long long>(seed), i);
        return 1;
      }
    }
  }
  printf("seed %llu iterations %ld events %zu malformed %zu ended %zu\n", static_cast<unsigned long long>(seed),
         iterations, events, malformed, ended);
  return 0;
}
