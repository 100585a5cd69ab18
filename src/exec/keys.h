// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <map>
#include <vector>

#include "src/exec/bound_schedule.h"
#include "src/transport/transport.h"

namespace reshard {

/// Where the caller's buffer lies.
struct BoundBuffer {
  std::int64_t id = -1;
  std::byte* data = nullptr;
  std::int64_t size_bytes = 0;
};

struct KeyExchange {
  const Plan& plan;
  Transport* transport;
  PeerMemory* tensors;  ///< exports and maps the buffers; the RunWords are of the transport, in memory of the host
  std::uint64_t tag;
  const std::vector<BoundBuffer>& src;  ///< this rank's source buffers
  const std::vector<BoundBuffer>& dst;  ///< and its destination buffers

  /// Whether this rank and the peer may read each other's memory; equal on both ends.
  bool shares_memory(std::int32_t peer) const { return transport->shares_memory(peer) && tensors->shares_memory(peer); }
};

/// Whose memory this rank reads in place, and who reads its own. Keys go only from a rank to those that may read it
/// (InPlacePeers), those of its source and of its destination each to whom they concern.
class SharedMemory {
 public:
  SharedMemory() = default;
  ~SharedMemory() { disconnect(); }
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;

  /// Exchanges keys with the ranks concerned, all of which must call it. A side of a peer is read in place when all its
  /// buffers could be mapped, else it sends everything: half of each would cost both protocols.
  Status connect(const KeyExchange& exchange, const Deadline& deadline);
  void disconnect();

  const std::map<std::int32_t, BufferTable>& sources() const { return sources_; }  ///< base addresses, by rank
  const std::map<std::int32_t, BufferTable>& destinations() const { return destinations_; }
  const std::map<std::int32_t, void*>& words() const { return words_; }  ///< their RunWords, by rank
  const RankLinks& links() const { return links_; }                      ///< who reads whom
  void* word() const { return word_; }  ///< this rank's RunWord; null when nobody may read its memory

 private:
  struct Mapping {
    PeerMemory* memory = nullptr;
    std::int32_t peer = -1;
    MemoryKey key;
    void* ptr = nullptr;
  };

  Status allocate_word(Transport* transport);
  std::vector<std::byte> letter_to(const KeyExchange& exchange, const InPlacePeers& peers, std::int32_t reader) const;
  Status read_letter(const KeyExchange& exchange, std::int32_t peer, const std::vector<std::byte>& letter);
  Result<bool> map_side(const KeyExchange& exchange, std::int32_t peer, const std::vector<std::byte>& keys,
                        BufferTable* table);
  static Result<void*> map(PeerMemory* memory, std::int32_t peer, MemoryKey key, std::vector<Mapping>* mappings);
  static void unmap(std::vector<Mapping>* mappings);

  PeerMemory* words_memory_ = nullptr;  // of word_
  void* word_ = nullptr;
  std::vector<std::byte> source_keys_;  // of this rank's buffers; empty: not all can be mapped
  std::vector<std::byte> destination_keys_;
  std::map<std::int32_t, BufferTable> sources_;
  std::map<std::int32_t, BufferTable> destinations_;
  std::map<std::int32_t, void*> words_;
  RankLinks links_;
  std::vector<Mapping> mappings_;
};

}  // namespace reshard
