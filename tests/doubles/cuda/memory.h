// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Memory of the devices that are played. It lies in shared memory, so that other processes can map it, and is closed
// (PROT_NONE) but while the double works: a host that reads or writes it dies as it deserves. Addresses are never used
// again; those of freed memory stay closed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>

namespace cuda_double {

enum class Kind {
  kMalloc,   // cudaMalloc
  kPool,     // cudaMallocAsync
  kIpc,      // another process's, through cudaIpcOpenMemHandle
  kPages,    // cuMemMap
  kPinned,   // cudaHostAlloc, cudaHostRegister
  kManaged,  // cudaMallocManaged
};

/// Physical memory. At its end is one more page, with what another process has to know of it.
struct Segment {
  int descriptor = -1;
  std::size_t size_bytes = 0;  // in whole pages, without the last one
  int device = 0;
  unsigned int handle_types = 0;  // of CUmemAllocationHandleType
  ~Segment();

  static std::shared_ptr<Segment> create(int device, std::size_t size_bytes, unsigned int handle_types);
  /// Of a descriptor of another process, which stays the caller's; null when it is no segment.
  static std::shared_ptr<Segment> open(int descriptor);
  /// The same of a process and a number of it.
  static std::shared_ptr<Segment> open(std::int64_t process, std::int64_t descriptor, std::uint64_t inode);
  std::uint64_t inode() const;
  /// Whether a process that lives, but for this one, has it open.
  bool is_used_by_others() const;

 private:
  struct Note;
  void map_note();
  Note* note_ = nullptr;         // shared between the processes
  std::int32_t* own_ = nullptr;  // this process in the note, if it opened the segment of another
};

struct Allocation {
  Kind kind = Kind::kMalloc;
  std::uintptr_t base = 0;
  std::size_t size_bytes = 0;    // as asked for
  std::size_t mapped_bytes = 0;  // in whole pages
  std::shared_ptr<Segment> segment;
  int device = 0;
  std::set<int> access;  // devices that may touch it: its own; for pages those of cuMemSetAccess
  bool is_open = false;  // at this moment
  Allocation* next_open = nullptr;
  std::int64_t num_users = 1;  // of an IPC mapping
  std::string ipc_handle;
  bool is_registered = false;  // pinned memory that stays the caller's
  bool contains(std::uintptr_t address) const { return address >= base && address - base < size_bytes; }
};

/// All that live, by their first address.
std::map<std::uintptr_t, Allocation>& allocations();

/// The one that holds the byte, or null.
Allocation* find(const void* ptr);

/// Whether all bytes lie in live allocations, one behind the other, and the first of these.
bool covers(const void* ptr, std::size_t size_bytes);

/// Whether the address was ever one of ours and is not any more.
bool was_freed(const void* ptr);

/// A range of addresses that nothing uses and nothing ever will. With closed pages on both sides.
std::uintptr_t reserve(std::size_t mapped_bytes);

/// Maps a new or given segment, closed, and lists it. Memory from a new one holds a pattern, not zeros.
Allocation& add_device_memory(Kind kind, int device, std::size_t size_bytes, std::shared_ptr<Segment> segment);
Allocation& add_pages(std::uintptr_t base, std::shared_ptr<Segment> segment, std::size_t size_bytes);

/// Open memory of the host.
Allocation& add_host_memory(Kind kind, int device, std::size_t size_bytes);
void add_registered(void* ptr, std::size_t size_bytes);

/// Checks what lies behind it and takes it off the list; closes the addresses for ever.
void remove(std::uintptr_t base);

std::uint64_t used_bytes(int device);

/// Opens it if kernels of the device may touch it. Allocates nothing: it is done inside a handler of signals.
bool open_for(int device, Allocation* allocation);
/// Closes what is open to kernels of another device.
void close_for_others(int device);
/// Opens the allocations that hold these bytes; a defect when some are freed or were never there.
void open_range(const void* ptr, std::size_t size_bytes, const char* what);
void close_all();

/// Whether a kernel of the device may touch all of these bytes.
bool can_access(int device, const void* ptr, std::size_t size_bytes);

}  // namespace cuda_double
