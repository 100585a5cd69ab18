// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "src/exec/bound_schedule.h"
#include "src/transport/transport.h"

namespace reshard {

/// Where the caller's buffer lies.
struct BoundBuffer {
  std::int64_t id = -1;
  std::byte* data = nullptr;
  std::int64_t size_bytes = 0;
  bool is_kept = false;  ///< by the binding that this one follows: whoever has mapped it for that one has it mapped
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

/// A peer's memory as this rank sees it; unmapped with the last binding that uses it.
class PeerMapping {
 public:
  PeerMapping(PeerMemory* memory, std::int32_t peer, MemoryKey key, void* ptr)
      : memory_(memory), peer_(peer), key_(std::move(key)), ptr_(ptr) {}
  ~PeerMapping() { memory_->unmap(peer_, key_, ptr_); }
  PeerMapping(const PeerMapping&) = delete;
  PeerMapping& operator=(const PeerMapping&) = delete;

  void* ptr() const { return ptr_; }

 private:
  PeerMemory* memory_;
  std::int32_t peer_;
  MemoryKey key_;
  void* ptr_;
};
using PeerMappingPtr = std::shared_ptr<const PeerMapping>;

/// Of a rank's buffers, in their order; an empty key of one that all its readers have mapped already. None: not all of
/// them can be mapped.
using BufferKeys = std::optional<std::vector<MemoryKey>>;

/// With whom a rank exchanges keys, each list ascending.
struct KeyPartners {
  std::vector<std::int32_t> lenders;  ///< whose memory it may read
  std::vector<std::int32_t> readers;  ///< who may read its own
};

class Mail;

/// Whose memory this rank reads in place, and who reads its own. Keys go only from a rank to those that may read it
/// (InPlacePeers), those of its source and of its destination each to whom they concern.
///
/// What a binding that came before has mapped stays mapped: for a buffer that is kept, a reader that has it is told so
/// instead of a key. The lender decides which, for it alone knows what moved, and it knows what the reader has mapped
/// by the reader's answer of then.
class SharedMemory {
 public:
  SharedMemory() = default;
  ~SharedMemory() { disconnect(); }
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;

  /// Exchanges keys with the ranks concerned, all of which must call it. A side of a peer is read in place when all its
  /// buffers could be mapped, else it sends everything: half of each would cost both protocols.
  /// `older`: of the binding that this one follows, on all ranks or on none (null). It is left as it is.
  Status connect(const KeyExchange& exchange, const SharedMemory* older, const Deadline& deadline);
  void disconnect();

  const std::map<std::int32_t, BufferTable>& sources() const { return sources_.tables; }  ///< base addresses, by rank
  const std::map<std::int32_t, BufferTable>& destinations() const { return destinations_.tables; }
  const std::map<std::int32_t, void*>& words() const { return words_; }  ///< their RunWords, by rank
  const RankLinks& links() const { return links_; }                      ///< who reads whom
  void* word() const { return word_.get(); }  ///< this rank's RunWord; null when nobody may read its memory
  std::int64_t num_mapped() const { return num_mapped_; }  ///< mappings that were made for this binding, words included

 private:
  /// Of all peers: one side of what this rank has mapped of them.
  struct Side {
    std::map<std::int32_t, BufferTable> tables;                               ///< by rank, and buffer
    std::map<std::int32_t, std::map<std::int64_t, PeerMappingPtr>> mappings;  ///< the same
  };

  static BufferKeys export_side(const KeyExchange& exchange, const std::vector<BoundBuffer>& buffers,
                                const std::vector<std::int32_t>& readers, const RankFlags* read_by);
  Status make_word(Transport* transport, const SharedMemory* older);
  std::vector<std::byte> letter_to(const KeyExchange& exchange, const InPlacePeers& peers, std::int32_t reader,
                                   const SharedMemory* older) const;
  Status read_letter(const KeyExchange& exchange, std::int32_t peer, const std::vector<std::byte>& letter,
                     const SharedMemory* older);
  Status read_word(const KeyExchange& exchange, std::int32_t peer, const MemoryKey* key, const SharedMemory* older);
  Status swap_answers(const KeyExchange& exchange, const KeyPartners& partners, const Mail& letters,
                      const SharedMemory* older, const Deadline& deadline, Status* status);
  Result<bool> map_side(const KeyExchange& exchange, std::int32_t peer, const std::vector<std::byte>& keys,
                        const Side* older, BufferTable table, Side* side);
  Result<PeerMappingPtr> map(PeerMemory* memory, std::int32_t peer, MemoryKey key);

  std::shared_ptr<void> word_;
  BufferKeys source_keys_;  // of this rank
  BufferKeys destination_keys_;
  Side sources_;
  Side destinations_;
  std::map<std::int32_t, PeerMappingPtr> word_mappings_;
  std::map<std::int32_t, void*> words_;
  RankLinks links_;
  std::int64_t num_mapped_ = 0;
};

}  // namespace reshard
