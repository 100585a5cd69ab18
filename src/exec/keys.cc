// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/exec/keys.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "src/base/bytes.h"
#include "src/exec/mail.h"

namespace reshard {
namespace {

constexpr std::byte kYes{1};
constexpr std::byte kNo{0};

// Keys of a rank take a few hundred bytes for each buffer.
constexpr std::int64_t kMostKeysBytes = std::int64_t{1} << 30;

/// The keys of buffers; nothing where one of them cannot be mapped.
std::vector<std::byte> write_keys(PeerMemory* memory, const std::vector<BoundBuffer>& buffers) {
  ByteWriter writer;
  writer.add(static_cast<std::int64_t>(buffers.size()));
  for (const BoundBuffer& buffer : buffers) {
    writer.add(buffer.id);
    writer.add(buffer.size_bytes);
    if (buffer.size_bytes == 0) continue;
    const MemoryKey key = memory->export_memory(buffer.data, static_cast<std::size_t>(buffer.size_bytes));
    if (key.empty()) return {};
    writer.add(key);
  }
  return writer.take();
}

bool contains(const std::vector<std::int32_t>& ranks, std::int32_t rank) {
  return std::binary_search(ranks.begin(), ranks.end(), rank);
}

/// Those of either list that share memory with this rank, ascending.
std::vector<std::int32_t> sharing(const KeyExchange& exchange, const std::vector<std::int32_t>& a,
                                  const std::vector<std::int32_t>& b) {
  std::set<std::int32_t> both(a.begin(), a.end());
  both.insert(b.begin(), b.end());
  std::erase_if(both, [&](std::int32_t peer) { return !exchange.shares_memory(peer); });
  return {both.begin(), both.end()};
}

Status malformed(std::int32_t peer) {
  return {RESHARD_ERR_TRANSPORT, fmt::format("rank {} sent malformed memory keys", peer)};
}

}  // namespace

Result<void*> SharedMemory::map(PeerMemory* memory, std::int32_t peer, MemoryKey key, std::vector<Mapping>* mappings) {
  RESHARD_TRY(void* ptr, memory->map(peer, key));
  if (ptr != nullptr) mappings->push_back({memory, peer, std::move(key), ptr});
  return ptr;
}

void SharedMemory::unmap(std::vector<Mapping>* mappings) {
  for (const Mapping& mapping : *mappings) mapping.memory->unmap(mapping.peer, mapping.key, mapping.ptr);
  mappings->clear();
}

/// Maps one side of a peer. False: not all of it can be; then nothing is.
Result<bool> SharedMemory::map_side(const KeyExchange& exchange, std::int32_t peer, const std::vector<std::byte>& keys,
                                    BufferTable* table) {
  ByteReader reader(keys);
  std::vector<Mapping> mappings;
  for (std::int64_t i = reader.number(); i > 0; --i) {
    const std::int64_t id = reader.number();
    const bool is_empty = reader.number() == 0;
    if (!reader.ok() || id < 0 || id >= static_cast<std::int64_t>(table->size())) {
      unmap(&mappings);
      return malformed(peer);
    }
    if (is_empty) continue;
    Result<void*> ptr = map(exchange.tensors, peer, reader.blob(), &mappings);
    if (!ptr.ok() || *ptr == nullptr) {
      unmap(&mappings);
      if (!ptr.ok()) return ptr.take_status();
      return false;
    }
    at(*table, id) = static_cast<std::byte*>(*ptr);
  }
  mappings_.insert(mappings_.end(), mappings.begin(), mappings.end());
  return true;
}

/// What a reader is told: in what memory the buffers are, the word's key, and the keys of each side that it may read.
/// An empty part: nothing of it.
std::vector<std::byte> SharedMemory::letter_to(const KeyExchange& exchange, const InPlacePeers& peers,
                                               std::int32_t reader) const {
  ByteWriter writer;
  writer.add(static_cast<std::int64_t>(exchange.tensors->space()));
  writer.add(word_ == nullptr ? MemoryKey() : exchange.transport->export_memory(word_, sizeof(std::int64_t)));
  writer.add(contains(peers.source_readers, reader) ? source_keys_ : std::vector<std::byte>());
  writer.add(contains(peers.destination_readers, reader) ? destination_keys_ : std::vector<std::byte>());
  return writer.take();
}

Status SharedMemory::read_letter(const KeyExchange& exchange, std::int32_t peer, const std::vector<std::byte>& letter) {
  ByteReader reader(letter);
  const auto space = static_cast<MemorySpace>(reader.number());
  const MemoryKey word_key = reader.blob();
  const std::vector<std::byte> source_keys = reader.blob();
  const std::vector<std::byte> destination_keys = reader.blob();
  if (!reader.ok()) return malformed(peer);
  // A kernel does not read the host's tensors, nor the host a device's.
  if (space != exchange.tensors->space()) return {};
  if (word_key.empty() || (source_keys.empty() && destination_keys.empty())) return {};
  RESHARD_TRY(void* word, map(exchange.transport, peer, word_key, &mappings_));
  if (word == nullptr) return {};
  words_.emplace(peer, word);
  if (!source_keys.empty()) {
    BufferTable table(exchange.plan.src->buffers().size(), nullptr);
    RESHARD_TRY(links_.reads_source[RankId(peer)], map_side(exchange, peer, source_keys, &table));
    if (links_.reads_source[RankId(peer)]) sources_.emplace(peer, std::move(table));
  }
  if (!destination_keys.empty()) {
    BufferTable table(exchange.plan.dst->buffers().size(), nullptr);
    RESHARD_TRY(links_.reads_destination[RankId(peer)], map_side(exchange, peer, destination_keys, &table));
    if (links_.reads_destination[RankId(peer)]) destinations_.emplace(peer, std::move(table));
  }
  return {};
}

Status SharedMemory::allocate_word(Transport* transport) {
  words_memory_ = transport;
  RESHARD_TRY(word_, transport->allocate(sizeof(std::int64_t)));
  return {};
}

Status SharedMemory::connect(const KeyExchange& exchange, const Deadline& deadline) {
  Transport* transport = exchange.transport;
  const InPlacePeers peers = in_place_peers(exchange.plan, transport->rank());
  const std::vector<std::int32_t> lenders = sharing(exchange, peers.sources, peers.destinations);
  const std::vector<std::int32_t> readers = sharing(exchange, peers.source_readers, peers.destination_readers);
  for (RankFlags* flags :
       {&links_.reads_source, &links_.reads_destination, &links_.source_read_by, &links_.destination_read_by}) {
    flags->assign(static_cast<std::size_t>(transport->num_ranks()), false);
  }
  // No step ends before all letters of it are sent, whatever went wrong here: the others wait for them, and all learn
  // of it by the vote.
  Status status;
  if (!readers.empty()) status = allocate_word(transport);
  if (!peers.source_readers.empty()) source_keys_ = write_keys(exchange.tensors, exchange.src);
  if (!peers.destination_readers.empty()) destination_keys_ = write_keys(exchange.tensors, exchange.dst);
  std::vector<std::vector<std::byte>> mine;
  for (const std::int32_t reader : readers) mine.push_back(letter_to(exchange, peers, reader));

  // The sizes of the letters, the letters, and what of them could be used.
  Mail sizes(transport, exchange.tag, deadline);
  for (const std::int32_t peer : lenders) RESHARD_TRY(sizes.recv(peer, sizeof(std::int64_t)));
  for (std::size_t i = 0; i < readers.size(); ++i) {
    ByteWriter size;
    size.add(static_cast<std::int64_t>(mine[i].size()));
    RESHARD_TRY(sizes.send(readers[i], size.take()));
  }
  RESHARD_TRY(sizes.wait());

  Mail letters(transport, exchange.tag, deadline);
  for (std::size_t i = 0; i < lenders.size(); ++i) {
    const std::int64_t size_bytes = ByteReader(sizes.received(i)).number();
    if (size_bytes < 0 || size_bytes > kMostKeysBytes) {
      return {RESHARD_ERR_TRANSPORT, fmt::format("rank {} announced {} bytes of memory keys", lenders[i], size_bytes)};
    }
    RESHARD_TRY(letters.recv(lenders[i], static_cast<std::size_t>(size_bytes)));
  }
  for (std::size_t i = 0; i < readers.size(); ++i) RESHARD_TRY(letters.send(readers[i], std::move(mine[i])));
  RESHARD_TRY(letters.wait());

  Mail answers(transport, exchange.tag, deadline);
  for (const std::int32_t peer : readers) RESHARD_TRY(answers.recv(peer, 2));
  for (std::size_t i = 0; i < lenders.size(); ++i) {
    if (status.ok()) status = read_letter(exchange, lenders[i], letters.received(i));
    const RankId peer(lenders[i]);
    RESHARD_TRY(answers.send(lenders[i],
                             {links_.reads_source[peer] ? kYes : kNo, links_.reads_destination[peer] ? kYes : kNo}));
  }
  RESHARD_TRY(answers.wait());
  for (std::size_t i = 0; i < readers.size(); ++i) {
    links_.source_read_by[RankId(readers[i])] = answers.received(i)[0] == kYes;
    links_.destination_read_by[RankId(readers[i])] = answers.received(i)[1] == kYes;
  }
  return status;
}

void SharedMemory::disconnect() {
  unmap(&mappings_);
  if (word_ != nullptr) static_cast<void>(words_memory_->free(std::exchange(word_, nullptr)).ok());
}

}  // namespace reshard
