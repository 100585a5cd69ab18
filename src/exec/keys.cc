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

/// How a letter speaks of a buffer, or of the RunWord.
enum class Told : std::int64_t {
  kNothing = 0,
  kKey = 1,   ///< its key follows
  kKept = 2,  ///< the reader has it mapped for the binding before this one
};

/// `has_new_reader`: one that has not mapped those of them that are kept.
BufferKeys export_keys(PeerMemory* memory, const std::vector<BoundBuffer>& buffers, bool has_new_reader) {
  std::vector<MemoryKey> keys;
  for (const BoundBuffer& buffer : buffers) {
    MemoryKey& key = keys.emplace_back();
    if (buffer.size_bytes == 0 || (buffer.is_kept && !has_new_reader)) continue;
    key = memory->export_memory(buffer.data, static_cast<std::size_t>(buffer.size_bytes));
    if (key.empty()) return std::nullopt;
  }
  return keys;
}

/// Of one side, for a reader that has mapped the buffers that are kept, or not.
std::vector<std::byte> write_keys(const BufferKeys& keys, const std::vector<BoundBuffer>& buffers, bool has_kept) {
  if (!keys.has_value()) return {};
  ByteWriter writer;
  writer.add(static_cast<std::int64_t>(buffers.size()));
  for (std::size_t i = 0; i < buffers.size(); ++i) {
    const bool is_kept = buffers[i].is_kept && has_kept;
    const Told told = buffers[i].size_bytes == 0 ? Told::kNothing : is_kept ? Told::kKept : Told::kKey;
    writer.add(buffers[i].id);
    writer.add(static_cast<std::int64_t>(told));
    if (told == Told::kKey) writer.add((*keys)[i]);
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

PeerMappingPtr find(const std::map<std::int32_t, std::map<std::int64_t, PeerMappingPtr>>& mappings, std::int32_t peer,
                    std::int64_t buffer) {
  const auto of_peer = mappings.find(peer);
  if (of_peer == mappings.end()) return nullptr;
  const auto found = of_peer->second.find(buffer);
  return found == of_peer->second.end() ? nullptr : found->second;
}

Status malformed(std::int32_t peer) {
  return {RESHARD_ERR_TRANSPORT, fmt::format("rank {} sent malformed memory keys", peer)};
}

/// The letters to the readers, of which the sizes go ahead; those from the lenders arrive in `letters`, in their order.
Status swap_letters(const KeyExchange& exchange, const KeyPartners& partners, std::vector<std::vector<std::byte>> mine,
                    const Deadline& deadline, Mail* letters) {
  Mail sizes(exchange.transport, exchange.tag, deadline);
  for (const std::int32_t peer : partners.lenders) RESHARD_TRY(sizes.recv(peer, sizeof(std::int64_t)));
  for (std::size_t i = 0; i < partners.readers.size(); ++i) {
    ByteWriter size;
    size.add(static_cast<std::int64_t>(mine[i].size()));
    RESHARD_TRY(sizes.send(partners.readers[i], size.take()));
  }
  RESHARD_TRY(sizes.wait());
  for (std::size_t i = 0; i < partners.lenders.size(); ++i) {
    const std::int64_t size_bytes = ByteReader(sizes.received(i)).number();
    if (size_bytes < 0 || size_bytes > kMostKeysBytes) {
      return {RESHARD_ERR_TRANSPORT,
              fmt::format("rank {} announced {} bytes of memory keys", partners.lenders[i], size_bytes)};
    }
    RESHARD_TRY(letters->recv(partners.lenders[i], static_cast<std::size_t>(size_bytes)));
  }
  for (std::size_t i = 0; i < partners.readers.size(); ++i) {
    RESHARD_TRY(letters->send(partners.readers[i], std::move(mine[i])));
  }
  return letters->wait();
}

}  // namespace

/// Null where it cannot be mapped.
Result<PeerMappingPtr> SharedMemory::map(PeerMemory* memory, std::int32_t peer, MemoryKey key) {
  RESHARD_TRY(void* ptr, memory->map(peer, key));
  if (ptr == nullptr) return PeerMappingPtr();
  ++num_mapped_;
  return PeerMappingPtr(std::make_shared<const PeerMapping>(memory, peer, std::move(key), ptr));
}

/// Maps one side of a peer. False: not all of it can be; then nothing is.
Result<bool> SharedMemory::map_side(const KeyExchange& exchange, std::int32_t peer, const std::vector<std::byte>& keys,
                                    const Side* older, BufferTable table, Side* side) {
  ByteReader reader(keys);
  std::map<std::int64_t, PeerMappingPtr> mappings;
  for (std::int64_t i = reader.number(); i > 0; --i) {
    const std::int64_t id = reader.number();
    const auto told = static_cast<Told>(reader.number());
    if (!reader.ok() || id < 0 || id >= static_cast<std::int64_t>(table.size())) return malformed(peer);
    if (told == Told::kNothing) continue;
    PeerMappingPtr mapping;
    if (told == Told::kKept) {
      mapping = older == nullptr ? nullptr : find(older->mappings, peer, id);
      if (mapping == nullptr) return malformed(peer);
    } else {
      RESHARD_TRY(mapping, map(exchange.tensors, peer, reader.blob()));
      if (mapping == nullptr) return false;
    }
    at(table, id) = static_cast<std::byte*>(mapping->ptr());
    mappings.emplace(id, std::move(mapping));
  }
  side->mappings.emplace(peer, std::move(mappings));
  side->tables.emplace(peer, std::move(table));
  return true;
}

/// What a reader is told: in what memory the buffers are, the word's key, and the keys of each side that it may read.
/// An empty part: nothing of it.
std::vector<std::byte> SharedMemory::letter_to(const KeyExchange& exchange, const InPlacePeers& peers,
                                               std::int32_t reader, const SharedMemory* older) const {
  const bool has_source = older != nullptr && RankLinks::has(older->links_.source_read_by, reader);
  const bool has_destination = older != nullptr && RankLinks::has(older->links_.destination_read_by, reader);
  const bool has_word = (has_source || has_destination) && word_ == older->word_;
  ByteWriter writer;
  writer.add(static_cast<std::int64_t>(exchange.tensors->space()));
  writer.add(static_cast<std::int64_t>(word_ == nullptr ? Told::kNothing : has_word ? Told::kKept : Told::kKey));
  if (word_ != nullptr && !has_word) writer.add(exchange.transport->export_memory(word_.get(), sizeof(std::int64_t)));
  const bool reads_source = contains(peers.source_readers, reader);
  const bool reads_destination = contains(peers.destination_readers, reader);
  writer.add(reads_source ? write_keys(source_keys_, exchange.src, has_source) : std::vector<std::byte>());
  writer.add(reads_destination ? write_keys(destination_keys_, exchange.dst, has_destination)
                               : std::vector<std::byte>());
  return writer.take();
}

/// Where it cannot be mapped, words_ lacks it. `key`: none if it is kept.
Status SharedMemory::read_word(const KeyExchange& exchange, std::int32_t peer, const MemoryKey* key,
                               const SharedMemory* older) {
  PeerMappingPtr mapping;
  if (key != nullptr) {
    RESHARD_TRY(mapping, map(exchange.transport, peer, *key));
    if (mapping == nullptr) return {};
  } else {
    if (older == nullptr || older->word_mappings_.count(peer) == 0) return malformed(peer);
    mapping = older->word_mappings_.at(peer);
  }
  words_.emplace(peer, mapping->ptr());
  word_mappings_.emplace(peer, std::move(mapping));
  return {};
}

Status SharedMemory::read_letter(const KeyExchange& exchange, std::int32_t peer, const std::vector<std::byte>& letter,
                                 const SharedMemory* older) {
  ByteReader reader(letter);
  const auto space = static_cast<MemorySpace>(reader.number());
  const auto told = static_cast<Told>(reader.number());
  const MemoryKey word_key = told == Told::kKey ? reader.blob() : MemoryKey();
  const std::vector<std::byte> source_keys = reader.blob();
  const std::vector<std::byte> destination_keys = reader.blob();
  if (!reader.ok()) return malformed(peer);
  // A kernel does not read the host's tensors, nor the host a device's.
  if (space != exchange.tensors->space()) return {};
  if (told == Told::kNothing || (source_keys.empty() && destination_keys.empty())) return {};
  RESHARD_TRY(read_word(exchange, peer, told == Told::kKept ? nullptr : &word_key, older));
  if (words_.count(peer) == 0) return {};
  if (!source_keys.empty()) {
    BufferTable table(exchange.plan.src->buffers().size(), nullptr);
    RESHARD_TRY(links_.reads_source[RankId(peer)],
                map_side(exchange, peer, source_keys, older == nullptr ? nullptr : &older->sources_, std::move(table),
                         &sources_));
  }
  if (!destination_keys.empty()) {
    BufferTable table(exchange.plan.dst->buffers().size(), nullptr);
    RESHARD_TRY(links_.reads_destination[RankId(peer)],
                map_side(exchange, peer, destination_keys, older == nullptr ? nullptr : &older->destinations_,
                         std::move(table), &destinations_));
  }
  return {};
}

/// Bindings that follow each other run one after the other, so that one word serves both.
Status SharedMemory::make_word(Transport* transport, const SharedMemory* older) {
  if (older != nullptr && older->word_ != nullptr) {
    word_ = older->word_;
    return {};
  }
  RESHARD_TRY(void* word, transport->allocate(sizeof(std::int64_t)));
  word_ = std::shared_ptr<void>(word, [transport](void* ptr) { static_cast<void>(transport->free(ptr).ok()); });
  return {};
}

/// Those of one side, if anybody reads it. `read_by`: who read it of the older binding, and so has what is kept.
BufferKeys SharedMemory::export_side(const KeyExchange& exchange, const std::vector<BoundBuffer>& buffers,
                                     const std::vector<std::int32_t>& readers, const RankFlags* read_by) {
  if (readers.empty()) return std::nullopt;
  const bool has_new = std::any_of(readers.begin(), readers.end(), [&](std::int32_t reader) {
    return read_by == nullptr || !RankLinks::has(*read_by, reader);
  });
  return export_keys(exchange.tensors, buffers, has_new);
}

/// Reads the letters and tells the lenders what of them could be used; hears the same from the readers. *status is what
/// came of this rank's part so far: it changes to what is wrong with a letter, and no letter is read after a fault.
Status SharedMemory::swap_answers(const KeyExchange& exchange, const KeyPartners& partners, const Mail& letters,
                                  const SharedMemory* older, const Deadline& deadline, Status* status) {
  Mail answers(exchange.transport, exchange.tag, deadline);
  for (const std::int32_t peer : partners.readers) RESHARD_TRY(answers.recv(peer, 2));
  for (std::size_t i = 0; i < partners.lenders.size(); ++i) {
    const RankId peer(partners.lenders[i]);
    if (status->ok()) *status = read_letter(exchange, peer, letters.received(i), older);
    RESHARD_TRY(
        answers.send(peer, {links_.reads_source[peer] ? kYes : kNo, links_.reads_destination[peer] ? kYes : kNo}));
  }
  RESHARD_TRY(answers.wait());
  for (std::size_t i = 0; i < partners.readers.size(); ++i) {
    const RankId reader(partners.readers[i]);
    links_.source_read_by[reader] = answers.received(i)[0] == kYes;
    links_.destination_read_by[reader] = answers.received(i)[1] == kYes;
  }
  return {};
}

Status SharedMemory::connect(const KeyExchange& exchange, const SharedMemory* older, const Deadline& deadline) {
  Transport* transport = exchange.transport;
  const InPlacePeers peers = in_place_peers(exchange.plan, transport->rank());
  const KeyPartners partners{sharing(exchange, peers.sources, peers.destinations),
                             sharing(exchange, peers.source_readers, peers.destination_readers)};
  for (RankFlags* flags :
       {&links_.reads_source, &links_.reads_destination, &links_.source_read_by, &links_.destination_read_by}) {
    flags->assign(static_cast<std::size_t>(transport->num_ranks()), false);
  }
  // No step ends before all letters of it are sent, whatever went wrong here: the others wait for them, and all learn
  // of it by the vote.
  Status status;
  if (!partners.readers.empty()) status = make_word(transport, older);
  const RankLinks* links = older == nullptr ? nullptr : &older->links_;
  source_keys_ =
      export_side(exchange, exchange.src, peers.source_readers, links == nullptr ? nullptr : &links->source_read_by);
  destination_keys_ = export_side(exchange, exchange.dst, peers.destination_readers,
                                  links == nullptr ? nullptr : &links->destination_read_by);
  std::vector<std::vector<std::byte>> mine;
  for (const std::int32_t reader : partners.readers) mine.push_back(letter_to(exchange, peers, reader, older));
  Mail letters(transport, exchange.tag, deadline);
  RESHARD_TRY(swap_letters(exchange, partners, std::move(mine), deadline, &letters));
  RESHARD_TRY(swap_answers(exchange, partners, letters, older, deadline, &status));
  return status;
}

void SharedMemory::disconnect() {
  sources_ = {};
  destinations_ = {};
  word_mappings_.clear();
  words_.clear();
  word_.reset();
}

}  // namespace reshard
