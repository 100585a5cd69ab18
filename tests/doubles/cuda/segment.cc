// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <string>

#include <fmt/format.h>

#include "tests/doubles/cuda/memory.h"
#include "tests/doubles/cuda/state.h"

namespace cuda_double {
namespace {

constexpr std::size_t kLastPageBytes = 4096;
constexpr std::uint64_t kMagic = 0x61647563656c6275;

/// Neither gone nor killed and waiting for its parent to see it.
bool is_alive(std::int32_t process) {
  std::string text;
  std::getline(std::ifstream(fmt::format("/proc/{}/stat", process)), text);
  const std::size_t end_of_name = text.rfind(')');
  return end_of_name != std::string::npos && text.compare(end_of_name, 3, ") Z") != 0;
}

}  // namespace

/// In the page behind the memory.
struct Segment::Note {
  std::uint64_t magic;
  std::uint64_t size_bytes;
  std::int32_t device;
  std::uint32_t handle_types;
  std::array<std::int32_t, 256> users;  // processes that have opened it; 0: a free place
};

void Segment::map_note() {
  void* const page =
      mmap(nullptr, kLastPageBytes, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, static_cast<off_t>(size_bytes));
  if (page == MAP_FAILED) defect(fmt::format("mmap of a page: {}", std::strerror(errno)));
  note_ = static_cast<Note*>(page);
}

Segment::~Segment() {
  if (own_ != nullptr) std::atomic_ref(*own_).store(0);
  if (note_ != nullptr) munmap(note_, kLastPageBytes);
  if (descriptor >= 0) close(descriptor);
}

std::shared_ptr<Segment> Segment::create(int device, std::size_t size_bytes, unsigned int handle_types) {
  auto segment = std::make_shared<Segment>();
  segment->descriptor = memfd_create("cuda_double", MFD_CLOEXEC);
  segment->size_bytes = size_bytes;
  segment->device = device;
  segment->handle_types = handle_types;
  if (segment->descriptor < 0 || ftruncate(segment->descriptor, static_cast<off_t>(size_bytes + kLastPageBytes)) != 0) {
    defect(fmt::format("no shared memory of {} bytes: {}", size_bytes, std::strerror(errno)));
  }
  segment->map_note();
  *segment->note_ = Note{kMagic, size_bytes, device, handle_types, {}};
  return segment;
}

std::shared_ptr<Segment> Segment::open(int given) {
  struct stat facts {};
  if (fstat(given, &facts) != 0 || facts.st_size <= static_cast<off_t>(kLastPageBytes)) return nullptr;
  auto segment = std::make_shared<Segment>();
  segment->descriptor = fcntl(given, F_DUPFD_CLOEXEC, 0);
  segment->size_bytes = static_cast<std::size_t>(facts.st_size) - kLastPageBytes;
  segment->map_note();
  if (segment->note_->magic != kMagic) return nullptr;
  segment->device = segment->note_->device;
  segment->handle_types = segment->note_->handle_types;
  for (std::int32_t& place : segment->note_->users) {
    std::int32_t expected = 0;
    if (!std::atomic_ref(place).compare_exchange_strong(expected, static_cast<std::int32_t>(getpid()))) continue;
    segment->own_ = &place;
    break;
  }
  return segment;
}

bool Segment::is_used_by_others() const {
  return std::any_of(note_->users.begin(), note_->users.end(), [](std::int32_t& place) {
    const std::int32_t process = std::atomic_ref(place).load();
    return process != 0 && process != getpid() && is_alive(process);
  });
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
