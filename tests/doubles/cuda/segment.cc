// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>

#include <fmt/format.h>

#include "tests/doubles/cuda/memory.h"
#include "tests/doubles/cuda/state.h"

namespace cuda_double {
namespace {

constexpr std::size_t kLastPageBytes = 4096;
constexpr std::uint64_t kMagic = 0x61647563656c6275;

/// In the page behind the memory.
struct Note {
  std::uint64_t magic;
  std::uint64_t size_bytes;
  std::int32_t device;
  std::uint32_t handle_types;
};

}  // namespace

Segment::~Segment() {
  if (descriptor >= 0) close(descriptor);
}

std::shared_ptr<Segment> Segment::create(int device, std::size_t size_bytes, unsigned int handle_types) {
  auto segment = std::make_shared<Segment>();
  segment->descriptor = memfd_create("cuda_double", MFD_CLOEXEC);
  segment->size_bytes = size_bytes;
  segment->device = device;
  segment->handle_types = handle_types;
  const Note note{kMagic, size_bytes, device, handle_types};
  if (segment->descriptor < 0 || ftruncate(segment->descriptor, static_cast<off_t>(size_bytes + kLastPageBytes)) != 0 ||
      pwrite(segment->descriptor, &note, sizeof note, static_cast<off_t>(size_bytes)) != sizeof note) {
    defect(fmt::format("no shared memory of {} bytes: {}", size_bytes, std::strerror(errno)));
  }
  return segment;
}

std::shared_ptr<Segment> Segment::open(int given) {
  struct stat facts {};
  if (fstat(given, &facts) != 0 || facts.st_size <= static_cast<off_t>(kLastPageBytes)) return nullptr;
  Note note{};
  if (pread(given, &note, sizeof note, facts.st_size - static_cast<off_t>(kLastPageBytes)) != sizeof note ||
      note.magic != kMagic) {
    return nullptr;
  }
  auto segment = std::make_shared<Segment>();
  segment->descriptor = fcntl(given, F_DUPFD_CLOEXEC, 0);
  segment->size_bytes = note.size_bytes;
  segment->device = note.device;
  segment->handle_types = note.handle_types;
  return segment;
}

std::shared_ptr<Segment> Segment::open(std::int64_t process, std::int64_t number, std::uint64_t inode) {
  const int opened = ::open(fmt::format("/proc/{}/fd/{}", process, number).c_str(), O_RDWR | O_CLOEXEC);
  if (opened < 0) return nullptr;
  std::shared_ptr<Segment> segment = open(opened);
  close(opened);
  // The number may be another file's by now.
  return segment != nullptr && segment->inode() == inode ? segment : nullptr;
}

std::uint64_t Segment::inode() const {
  struct stat facts {};
  return fstat(descriptor, &facts) == 0 ? facts.st_ino : 0;
}

}  // namespace cuda_double
