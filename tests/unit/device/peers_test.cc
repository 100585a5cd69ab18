// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Memory of one process in the address space of another. The test program itself never uses CUDA: each test forks two
// processes that do.
#include <cuda.h>
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <numeric>

#include "src/device/device.h"
#include "src/device/flags.h"
#include "src/device/memory.h"
#include "src/device/peer_key.h"
#include "src/device/peer_memory.h"
#include "tests/doubles/cuda/control.h"
#include "tests/unit/device/add_kernel.h"
#include "tests/unit/device/segments.h"
#include "tests/unit/device/two_processes.h"

namespace reshard {
namespace {

constexpr int kNumElements = 1000;
constexpr std::size_t kBytes = kNumElements * sizeof(int);

/// Memory of one process, by whatever way it was made.
struct Exporter {
  explicit Exporter(std::int32_t device) : peers(DevicePeerMemory::create(device).take()) {
    RESHARD_REQUIRE(peers != nullptr);
  }
  std::unique_ptr<DevicePeerMemory> peers;

  /// Sends the key of kBytes at `ptr`, which hold 0, 1, 2, ...; and sees that the partner has added 5 to each.
  void offer(const Partner& partner, void* ptr, PeerKeyKind kind) const {
    std::vector<int> values(kNumElements);
    std::iota(values.begin(), values.end(), 0);
    cuda_double_poke(ptr, values.data(), kBytes);
    const Result<std::vector<std::byte>> key = peers->export_memory(ptr, kBytes);
    RESHARD_REQUIRE(key.ok());
    RESHARD_REQUIRE(peer_key_kind(*key) == kind);
    RESHARD_REQUIRE(key->size() < 1024);
    partner.send(*key);
    RESHARD_REQUIRE(partner.receive_text() == "mapped");
    peers->withdraw(*key);
    partner.send_text("withdrawn");
    RESHARD_REQUIRE(partner.receive_text() == "added");
    cuda_double_peek(values.data(), ptr, kBytes);
    for (int index = 0; index < kNumElements; ++index)
      RESHARD_REQUIRE(values[static_cast<std::size_t>(index)] == index + 5);
  }
};

/// Maps what an Exporter offers, and adds 5 to it by a kernel of `device`.
void add_five(const Partner& partner, std::int32_t device) {
  const Result<std::unique_ptr<DevicePeerMemory>> peers = DevicePeerMemory::create(device);
  RESHARD_REQUIRE(peers.ok());
  const std::vector<std::byte> key = partner.receive();
  const Result<void*> mapped = (*peers)->map(key);
  RESHARD_REQUIRE(mapped.ok() && *mapped != nullptr);
  partner.send_text("mapped");
  RESHARD_REQUIRE(partner.receive_text() == "withdrawn");
  {
    const Result<DeviceGuard> guard = DeviceGuard::enter(device);
    const Result<Stream> stream = Stream::create(device);
    RESHARD_REQUIRE(stream.ok());
    auto* const values = static_cast<int*>(*mapped);
    RESHARD_REQUIRE(launch_add(values, values, kNumElements, 5, stream->handle()) == 0);
    RESHARD_REQUIRE(stream->synchronize().ok());
  }
  RESHARD_REQUIRE((*peers)->unmap(key, *mapped).ok());
  RESHARD_REQUIRE(cuda_double_num_live() == 0);
  partner.send_text("added");
}

/// What cannot be mapped is no error.
void find_nothing(const Partner& partner, std::int32_t device) {
  const Result<std::unique_ptr<DevicePeerMemory>> peers = DevicePeerMemory::create(device);
  RESHARD_REQUIRE(peers.ok());
  const Result<void*> mapped = (*peers)->map(partner.receive());
  RESHARD_REQUIRE(mapped.ok());
  RESHARD_REQUIRE(*mapped == nullptr);
  RESHARD_REQUIRE(cuda_double_num_live() == 0);
  partner.send_text("nothing");
}

void send_key(const Partner& partner, const std::vector<std::byte>& key) {
  partner.send(key);
  RESHARD_REQUIRE(partner.receive_text() == "nothing");
}

TEST(PeersTest, KernelsOfAnyDeviceWriteMemoryOfAnotherProcessAtAnyOffset) {
  for (const std::int32_t device : {0, 1}) {
    EXPECT_TRUE(run_two(
        [](const Partner& partner) {
          const Exporter exporter(0);
          const Result<DeviceMemory> memory = DeviceMemory::allocate(0, 3 * kBytes);
          exporter.offer(partner, static_cast<std::byte*>(memory->data()) + kBytes + 4, PeerKeyKind::kIpc);
        },
        [device](const Partner& partner) { add_five(partner, device); }));
  }
}

TEST(PeersTest, RangeOverSeveralPiecesOfAnExpandableSegmentIsOne) {
  for (const std::int32_t device : {0, 1}) {
    EXPECT_TRUE(run_two(
        [](const Partner& partner) {
          {
            const Exporter exporter(0);
            const ExpandableSegment segment(0, 4, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
            exporter.offer(partner, segment.data() + 2 * ExpandableSegment::kPieceBytes - 1000,
                           PeerKeyKind::kDescriptors);
          }
          RESHARD_REQUIRE(cuda_double_num_live() == 0);  // nothing that was offered holds memory
        },
        [device](const Partner& partner) { add_five(partner, device); }));
  }
}

TEST(PeersTest, FabricHandlesAreTakenWhereTheDriverHasThem) {
  const auto with_fabric = [](const Partner& partner) {
    cuda_double_set_fabric(1);
    add_five(partner, 1);
  };
  EXPECT_TRUE(run_two(
      [](const Partner& partner) {
        cuda_double_set_fabric(1);
        const Exporter exporter(0);
        const Result<DeviceMemory> memory = DeviceMemory::allocate(0, kBytes, Export::kDomain);
        exporter.offer(partner, memory->data(), PeerKeyKind::kFabric);
      },
      with_fabric));
}

TEST(PeersTest, MemoryForTheDomainGoesByDescriptorsWhereNoFabricHandleIsToBeHad) {
  EXPECT_TRUE(run_two(
      [](const Partner& partner) {
        cuda_double_set_fabric(1);
        const Exporter exporter(0);
        const Result<DeviceMemory> memory = DeviceMemory::allocate(0, kBytes, Export::kDomain);
        cuda_double_fail("cuMemExportToShareableHandle", 1, CUDA_ERROR_NOT_PERMITTED);
        exporter.offer(partner, memory->data(), PeerKeyKind::kDescriptors);
      },
      [](const Partner& partner) { add_five(partner, 1); }));
}

TEST(PeersTest, TwoRangesOfOneAllocationAreMappedOnce) {
  EXPECT_TRUE(run_two(
      [](const Partner& partner) {
        const Exporter exporter(0);
        const Result<DeviceMemory> memory = DeviceMemory::allocate(0, 2 * kBytes);
        for (const std::size_t offset : {std::size_t{0}, kBytes}) {
          partner.send(*exporter.peers->export_memory(static_cast<std::byte*>(memory->data()) + offset, kBytes));
        }
        RESHARD_REQUIRE(partner.receive_text() == "done");
      },
      [](const Partner& partner) {
        const Result<std::unique_ptr<DevicePeerMemory>> peers = DevicePeerMemory::create(2);
        const std::vector<std::byte> first_key = partner.receive();
        const std::vector<std::byte> second_key = partner.receive();
        const Result<void*> first = (*peers)->map(first_key);
        const Result<void*> second = (*peers)->map(second_key);
        RESHARD_REQUIRE(first.ok() && second.ok());
        RESHARD_REQUIRE(static_cast<std::byte*>(*second) - static_cast<std::byte*>(*first) ==
                        static_cast<std::ptrdiff_t>(kBytes));
        RESHARD_REQUIRE(cuda_double_calls_of("cudaIpcOpenMemHandle") == 1);
        RESHARD_REQUIRE((*peers)->unmap(first_key, *second).code() == RESHARD_ERR_INVALID_ARGUMENT);
        RESHARD_REQUIRE((*peers)->unmap(first_key, *first).ok());
        RESHARD_REQUIRE(cuda_double_calls_of("cudaIpcCloseMemHandle") == 0);
        RESHARD_REQUIRE((*peers)->unmap(second_key, *second).ok());
        RESHARD_REQUIRE(cuda_double_calls_of("cudaIpcCloseMemHandle") == 1);
        RESHARD_REQUIRE((*peers)->unmap(second_key, *second).code() == RESHARD_ERR_INVALID_ARGUMENT);
        partner.send_text("done");
      }));
}

TEST(PeersTest, ManyRangesOfOnePieceTakeOneDescriptorUntilTheLastIsWithdrawn) {
  EXPECT_TRUE(run_two(
      [](const Partner& partner) {
        const Exporter exporter(0);
        const ExpandableSegment segment(0, 2, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
        std::vector<std::vector<std::byte>> keys;
        for (std::size_t index = 0; index < 100; ++index) {
          keys.push_back(exporter.peers->export_memory(segment.data() + 100 * index, kBytes).take());
        }
        RESHARD_REQUIRE(cuda_double_calls_of("cuMemExportToShareableHandle") == 1);
        for (std::size_t index = 0; index < 99; ++index) exporter.peers->withdraw(keys[index]);
        partner.send(keys[99]);
        RESHARD_REQUIRE(partner.receive_text() == "mapped");
        exporter.peers->withdraw(keys[99]);
        send_key(partner, keys[99]);
      },
      [](const Partner& partner) {
        {
          const Result<std::unique_ptr<DevicePeerMemory>> peers = DevicePeerMemory::create(0);
          const Result<void*> mapped = (*peers)->map(partner.receive());
          RESHARD_REQUIRE(mapped.ok() && *mapped != nullptr);
          partner.send_text("mapped");
        }
        find_nothing(partner, 0);
      }));
}

TEST(PeersTest, RangeOfWhichOnePieceCannotBeExportedHoldsNone) {
  EXPECT_TRUE(run_two(
      [](const Partner&) {
        const Exporter exporter(0);
        const ExpandableSegment segment(0, 2, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
        const std::int64_t num_live = cuda_double_num_live();
        cuda_double_fail("cuMemExportToShareableHandle", 2, CUDA_ERROR_INVALID_VALUE);
        const Result<std::vector<std::byte>> key = exporter.peers->export_memory(segment.data(), segment.size_bytes());
        RESHARD_REQUIRE(key.ok() && peer_key_kind(*key) == PeerKeyKind::kProcess);
        RESHARD_REQUIRE(cuda_double_num_live() == num_live);
      },
      [](const Partner&) {}));
}

TEST(PeersTest, DoubleSeesMemoryThatIsFreedWhileAPeerHasItMapped) {
  EXPECT_TRUE(run_two(
      [](const Partner& partner) {
        const Exporter exporter(0);
        Result<DeviceMemory> first = DeviceMemory::allocate(0, kBytes);
        Result<DeviceMemory> second = DeviceMemory::allocate(0, kBytes);
        partner.send(*exporter.peers->export_memory(first->data(), kBytes));
        partner.send(*exporter.peers->export_memory(second->data(), kBytes));
        RESHARD_REQUIRE(partner.receive_text() == "unmapped one");
        first = DeviceMemory();
        RESHARD_REQUIRE(cuda_double_num_freed_while_mapped() == 0);
        second = DeviceMemory();
        RESHARD_REQUIRE(cuda_double_num_freed_while_mapped() == 1);
        partner.send_text("freed");
      },
      [](const Partner& partner) {
        const Result<std::unique_ptr<DevicePeerMemory>> peers = DevicePeerMemory::create(0);
        const std::vector<std::byte> key = partner.receive();
        const Result<void*> first = (*peers)->map(key);
        const Result<void*> second = (*peers)->map(partner.receive());
        RESHARD_REQUIRE(first.ok() && second.ok() && *second != nullptr);
        RESHARD_REQUIRE((*peers)->unmap(key, *first).ok());
        partner.send_text("unmapped one");
        RESHARD_REQUIRE(partner.receive_text() == "freed");
      }));
}

TEST(PeersTest, WhatIsStillMappedIsUnmappedAtTheEnd) {
  EXPECT_TRUE(run_two(
      [](const Partner& partner) {
        const Exporter exporter(0);
        const Result<DeviceMemory> memory = DeviceMemory::allocate(0, kBytes);
        const ExpandableSegment segment(0, 1, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
        partner.send(*exporter.peers->export_memory(memory->data(), kBytes));
        partner.send(*exporter.peers->export_memory(segment.data(), kBytes));
        RESHARD_REQUIRE(partner.receive_text() == "done");
      },
      [](const Partner& partner) {
        {
          const Result<std::unique_ptr<DevicePeerMemory>> peers = DevicePeerMemory::create(2);
          for (int count = 0; count < 2; ++count) {
            const Result<void*> mapped = (*peers)->map(partner.receive());
            RESHARD_REQUIRE(mapped.ok() && *mapped != nullptr);
          }
          RESHARD_REQUIRE(cuda_double_num_live() == 2);
        }
        RESHARD_REQUIRE(cuda_double_num_live() == 0);
        partner.send_text("done");
      }));
}

TEST(PeersTest, MappingThatFailsAnywhereLeavesNothingBehind) {
  EXPECT_TRUE(run_two(
      [](const Partner& partner) {
        const Exporter exporter(0);
        const ExpandableSegment segment(0, 3, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
        const Result<DeviceMemory> memory = DeviceMemory::allocate(0, kBytes);
        partner.send(*exporter.peers->export_memory(segment.data(), segment.size_bytes()));
        partner.send(*exporter.peers->export_memory(memory->data(), kBytes));
        RESHARD_REQUIRE(partner.receive_text() == "done");
      },
      [](const Partner& partner) {
        const Result<std::unique_ptr<DevicePeerMemory>> peers = DevicePeerMemory::create(1);
        const Result<DeviceGuard> guard = DeviceGuard::enter(1);
        for (const std::vector<std::byte>& key : {partner.receive(), partner.receive()}) {
          int num_null = 0;
          for (std::int64_t nth = 1;; ++nth) {
            cuda_double_clear();
            cuda_double_fail("any", nth, CUDA_ERROR_INVALID_VALUE);
            const Result<void*> mapped = (*peers)->map(key);
            if (mapped.ok() && *mapped != nullptr) {
              cuda_double_clear();
              RESHARD_REQUIRE((*peers)->unmap(key, *mapped).ok());
              break;
            }
            if (mapped.ok()) ++num_null;
            RESHARD_REQUIRE(cuda_double_num_live() == 0);
          }
          RESHARD_REQUIRE(num_null > 0);
        }
        partner.send_text("done");
      }));
}

TEST(PeersTest, KeyOfAnotherHostIsNotTried) {
  EXPECT_TRUE(run_two(
      [](const Partner& partner) {
        const Exporter exporter(0);
        const Result<DeviceMemory> memory = DeviceMemory::allocate(0, kBytes);
        PeerKey key = *PeerKey::parse(exporter.peers->export_memory(memory->data(), kBytes).take());
        RESHARD_REQUIRE(key.host == this_host());
        key.host = "another";
        send_key(partner, key.bytes());
      },
      [](const Partner& partner) {
        find_nothing(partner, 0);
        RESHARD_REQUIRE(cuda_double_calls_of("cudaIpcOpenMemHandle") == 0);
      }));
}

TEST(PeersTest, WithdrawnDescriptorsAreNotToBeHad) {
  EXPECT_TRUE(run_two(
      [](const Partner& partner) {
        const Exporter exporter(0);
        const ExpandableSegment segment(0, 2, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
        const Result<std::vector<std::byte>> key = exporter.peers->export_memory(segment.data(), kBytes);
        exporter.peers->withdraw(*key);
        send_key(partner, *key);
      },
      [](const Partner& partner) { find_nothing(partner, 0); }));
}

TEST(PeersTest, DeviceWithoutAccessFindsNothing) {
  for (const bool is_segment : {false, true}) {
    EXPECT_TRUE(run_two(
        [is_segment](const Partner& partner) {
          const Exporter exporter(0);
          const Result<DeviceMemory> memory = DeviceMemory::allocate(0, kBytes);
          const ExpandableSegment segment(0, 2, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
          void* const ptr = is_segment ? segment.data() : memory->data();
          send_key(partner, *exporter.peers->export_memory(ptr, kBytes));
        },
        [](const Partner& partner) {
          cuda_double_set_peer_access(0);
          find_nothing(partner, 1);
        }));
  }
}

TEST(PeersTest, PeerThatIsGoneLeavesNothingToMap) {
  for (const bool is_segment : {false, true}) {
    (void)run_two(
        [is_segment](const Partner& partner) {
          const Exporter exporter(0);
          const Result<DeviceMemory> memory = DeviceMemory::allocate(0, kBytes);
          const ExpandableSegment segment(0, 2, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
          void* const ptr = is_segment ? segment.data() : memory->data();
          partner.send(*exporter.peers->export_memory(ptr, kBytes));
          std::quick_exit(0);
        },
        [](const Partner& partner) {
          const std::vector<std::byte> key = partner.receive();
          while (!partner.receive().empty()) {
          }
          usleep(100'000);  // until the kernel has closed everything of it
          const Result<std::unique_ptr<DevicePeerMemory>> peers = DevicePeerMemory::create(1);
          const Result<void*> mapped = (*peers)->map(key);
          RESHARD_REQUIRE(mapped.ok() && *mapped == nullptr);
        });
  }
}

TEST(PeersTest, MemoryOfAPoolIsForItsOwnProcessOnly) {
  EXPECT_TRUE(run_two(
      [](const Partner& partner) {
        const Exporter exporter(0);
        RESHARD_REQUIRE(cudaSetDevice(0) == cudaSuccess);
        void* ptr = nullptr;
        RESHARD_REQUIRE(cudaMallocAsync(&ptr, kBytes, nullptr) == cudaSuccess);
        const Result<std::vector<std::byte>> key = exporter.peers->export_memory(ptr, kBytes);
        RESHARD_REQUIRE(key.ok() && peer_key_kind(*key) == PeerKeyKind::kProcess);
        const Result<void*> here = exporter.peers->map(*key);
        RESHARD_REQUIRE(here.ok() && *here == ptr);
        send_key(partner, *key);
      },
      [](const Partner& partner) { find_nothing(partner, 0); }));
}

TEST(PeersTest, HostMemoryAndRangesOverTwoAllocationsHaveNoKey) {
  EXPECT_TRUE(run_two(
      [](const Partner&) {
        const Exporter exporter(0);
        const Result<DeviceMemory> memory = DeviceMemory::allocate(0, kBytes);
        const Result<PinnedMemory> pinned = PinnedMemory::allocate(0, kBytes);
        const int on_stack = 0;
        const std::pair<const void*, std::size_t> cases[] = {
            {&on_stack, 4}, {pinned->data(), 4}, {memory->data(), 0}, {memory->data(), kBytes + 1}};
        for (const auto& [ptr, size_bytes] : cases) {
          const Result<std::vector<std::byte>> key = exporter.peers->export_memory(ptr, size_bytes);
          RESHARD_REQUIRE(key.ok() && key->empty());
        }
        const Result<void*> nothing = exporter.peers->map({});
        RESHARD_REQUIRE(nothing.ok() && *nothing == nullptr);
      },
      [](const Partner&) {}));
}

TEST(PeersTest, BytesThatAreNoKeyAreRefused) {
  EXPECT_TRUE(run_two(
      [](const Partner&) {
        const Exporter exporter(0);
        const Result<DeviceMemory> memory = DeviceMemory::allocate(0, kBytes);
        const std::vector<std::byte> key = exporter.peers->export_memory(memory->data(), kBytes).take();
        for (std::size_t size = 1; size < key.size(); ++size) {
          const std::vector<std::byte> part(key.begin(), key.begin() + static_cast<std::ptrdiff_t>(size));
          RESHARD_REQUIRE(exporter.peers->map(part).status().code() == RESHARD_ERR_INVALID_ARGUMENT);
          RESHARD_REQUIRE(peer_key_kind(part) == PeerKeyKind::kNone);
        }
      },
      [](const Partner&) {}));
}

TEST(PeersTest, FlagsRaisedByAPeerAreSeen) {
  EXPECT_TRUE(run_two(
      [](const Partner& partner) {
        const Exporter exporter(0);
        const Result<ReadinessFlags> flags = ReadinessFlags::create(0, 3);
        partner.send(*exporter.peers->export_memory(flags->base(), flags->size_bytes()));
        RESHARD_REQUIRE(partner.receive_text() == "raised");
        ReadinessFlags::Word word = 0;
        cuda_double_peek(&word, ReadinessFlags::address(flags->base(), 2), sizeof word);
        RESHARD_REQUIRE(word == 0x0707070707070707);
        cuda_double_peek(&word, ReadinessFlags::address(flags->base(), 1), sizeof word);
        RESHARD_REQUIRE(word == 0);
      },
      [](const Partner& partner) {
        const Result<std::unique_ptr<DevicePeerMemory>> peers = DevicePeerMemory::create(1);
        const Result<void*> base = (*peers)->map(partner.receive());
        const Result<Stream> stream = Stream::create(1);
        RESHARD_REQUIRE(fill_async(ReadinessFlags::address(*base, 2), 7, sizeof(ReadinessFlags::Word), *stream).ok());
        RESHARD_REQUIRE(stream->synchronize().ok());
        partner.send_text("raised");
      }));
}

TEST(PeersTest, WithinAProcessTheAddressItselfServesOnceTheDevicesHaveAccess) {
  EXPECT_TRUE(run_two(
      [](const Partner&) {
        const Exporter owner(0);
        const Exporter reader(1);
        const Result<DeviceMemory> memory = DeviceMemory::allocate(0, kBytes);
        const ExpandableSegment segment(0, 2, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
        std::byte* const across = segment.data() + ExpandableSegment::kPieceBytes - 8;
        for (void* ptr : {memory->data(), static_cast<void*>(across)}) {
          RESHARD_REQUIRE(cuda_double_can_access(1, ptr, kBytes) == 0);
          const std::vector<std::byte> key = owner.peers->export_memory(ptr, kBytes).take();
          for (int count = 0; count < 2; ++count) {  // access that is there already is in order
            const Result<void*> mapped = reader.peers->map(key);
            RESHARD_REQUIRE(mapped.ok() && *mapped == ptr);
          }
          RESHARD_REQUIRE(cuda_double_can_access(1, ptr, kBytes) == 1);
          RESHARD_REQUIRE(reader.peers->unmap(key, ptr).ok());
        }
        RESHARD_REQUIRE(cudaPeekAtLastError() == cudaSuccess);
      },
      [](const Partner&) {
        cuda_double_set_peer_access(0);
        const Exporter owner(0);
        const Exporter reader(1);
        const Result<DeviceMemory> memory = DeviceMemory::allocate(0, kBytes);
        const Result<void*> mapped = reader.peers->map(owner.peers->export_memory(memory->data(), kBytes).take());
        RESHARD_REQUIRE(mapped.ok() && *mapped == nullptr);
      }));
}

}  // namespace
}  // namespace reshard
