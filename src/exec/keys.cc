// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/exec/keys.h"

#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <set>

#include "src/base/bytes.h"

namespace reshard {
namespace {

constexpr std::byte kYes{1};
constexpr std::byte kNo{0};

// Keys of a rank take a few hundred bytes for each buffer.
constexpr std::int64_t kMostKeysBytes = std::int64_t{1} << 30;

/// Messages of the exchange: all are waited for together, and taken back together when that fails.
class Mail {
 public:
  Mail(const KeyExchange& exchange, const Deadline& deadline)
      : transport_(exchange.transport), tag_(exchange.tag), deadline_(deadline) {}
  ~Mail() {
    std::vector<Request*> requests;
    for (Letter& letter : *letters_) requests.push_back(&letter.request);
    if (!transport_->cancel_all(requests, Deadline(Transport::kCancelUs))) transport_->keep(letters_);
  }
  Mail(const Mail&) = delete;
  Mail& operator=(const Mail&) = delete;

  Status send(std::int32_t peer, std::vector<std::byte> bytes) {
    Letter& letter = letters_->emplace_back(Letter{peer, {}, std::move(bytes)});
    return transport_->send(peer, tag_, letter.bytes.data(), letter.bytes.size(), &letter.request);
  }
  /// Receives into the next of received().
  Status recv(std::int32_t peer, std::size_t size_bytes) {
    Letter& letter = letters_->emplace_back(Letter{peer, {}, std::vector<std::byte>(size_bytes)});
    received_.push_back(&letter.bytes);
    return transport_->recv(peer, tag_, letter.bytes.data(), size_bytes, &letter.request);
  }
  const std::vector<std::byte>& received(std::size_t index) const { return *received_[index]; }

  Status wait() const {
    const auto is_pending = [](const Letter& letter) { return letter.request.pending(); };
    while (std::any_of(letters_->begin(), letters_->end(), is_pending)) {
      if (transport_->progress()) continue;
      RESHARD_TRY(transport_->health());
      RESHARD_TRY(check_departed());
      if (deadline_.expired()) {
        return {RESHARD_ERR_TIMEOUT,
                fmt::format("memory keys were not exchanged within {} us", deadline_.timeout_us())};
      }
      transport_->idle();
    }
    const auto has_failed = [](const Letter& letter) { return letter.request.failed(); };
    if (std::none_of(letters_->begin(), letters_->end(), has_failed)) return {};
    return {RESHARD_ERR_TRANSPORT, "exchanging memory keys failed in the transport"};
  }

 private:
  struct Letter {
    std::int32_t peer = -1;
    Request request;
    std::vector<std::byte> bytes;
  };

  /// No rank leaves before the vote that ends a bind, unless it has given the bind up.
  Status check_departed() const {
    for (const std::int32_t rank : transport_->departed()) {
      const auto is_awaited = [rank](const Letter& letter) { return letter.peer == rank && letter.request.pending(); };
      if (std::none_of(letters_->begin(), letters_->end(), is_awaited)) continue;
      return {RESHARD_ERR_PEER_FAILED, fmt::format("rank {} left while memory keys were exchanged", rank)};
    }
    return {};
  }

  Transport* transport_;
  std::uint64_t tag_;
  const Deadline& deadline_;
  std::shared_ptr<std::deque<Letter>> letters_ = std::make_shared<std::deque<Letter>>();  // at fixed addresses
  std::vector<const std::vector<std::byte>*> received_;
};

/// The ranks that may read this rank's source: those of which it is one of sources_of().
std::vector<std::int32_t> readers_of(const KeyExchange& exchange) {
  std::set<std::int32_t> readers;
  for (const Route& route : exchange.plan.routes) {
    const Hop& hop = *exchange.plan.begin_hops(route);
    if (route.num_hops == 1 && hop.src == exchange.transport->rank()) readers.insert(hop.dst);
  }
  std::erase_if(readers, [&](std::int32_t peer) { return !exchange.shares_memory(peer); });
  return {readers.begin(), readers.end()};
}

}  // namespace

/// The word's key and the buffers'; nothing where one of them cannot be mapped.
std::vector<std::byte> SharedMemory::write_keys(const KeyExchange& exchange) const {
  ByteWriter writer;
  const auto add = [&](PeerMemory* memory, const void* ptr, std::size_t size_bytes) {
    const MemoryKey key = memory->export_memory(ptr, size_bytes);
    writer.add(key);
    return !key.empty();
  };
  bool is_mappable = word_ != nullptr && add(exchange.transport, word_, sizeof(std::int64_t));
  writer.add(static_cast<std::int64_t>(exchange.src.size()));
  for (const BoundBuffer& buffer : exchange.src) {
    writer.add(buffer.id);
    writer.add(buffer.size_bytes);
    if (buffer.size_bytes == 0 || !is_mappable) continue;
    is_mappable = add(exchange.tensors, buffer.data, static_cast<std::size_t>(buffer.size_bytes));
  }
  return is_mappable ? writer.take() : std::vector<std::byte>();
}

Result<void*> SharedMemory::map(PeerMemory* memory, std::int32_t peer, MemoryKey key, std::vector<Mapping>* mappings) {
  RESHARD_TRY(void* ptr, memory->map(peer, key));
  if (ptr != nullptr) mappings->push_back({memory, peer, std::move(key), ptr});
  return ptr;
}

void SharedMemory::unmap(std::vector<Mapping>* mappings) {
  for (const Mapping& mapping : *mappings) mapping.memory->unmap(mapping.peer, mapping.key, mapping.ptr);
  mappings->clear();
}

Status SharedMemory::map_source(const KeyExchange& exchange, std::int32_t peer, const std::vector<std::byte>& keys) {
  ByteReader reader(keys);
  std::vector<Mapping> mappings;
  const auto unreadable = [&] {  // it sends, then
    unmap(&mappings);
    return Status();
  };
  RESHARD_TRY(void* word, map(exchange.transport, peer, reader.blob(), &mappings));
  if (word == nullptr) return unreadable();
  BufferTable table(exchange.plan.src->buffers().size(), nullptr);
  for (std::int64_t i = reader.number(); i > 0; --i) {
    const std::int64_t id = reader.number();
    const bool is_empty = reader.number() == 0;
    if (!reader.ok() || id < 0 || id >= static_cast<std::int64_t>(table.size())) {
      return {RESHARD_ERR_TRANSPORT, fmt::format("rank {} sent malformed memory keys", peer)};
    }
    if (is_empty) continue;
    RESHARD_TRY(void* ptr, map(exchange.tensors, peer, reader.blob(), &mappings));
    if (ptr == nullptr) return unreadable();
    at(table, id) = static_cast<std::byte*>(ptr);
  }
  sources_.emplace(peer, std::move(table));
  words_.emplace(peer, word);
  mappings_.insert(mappings_.end(), mappings.begin(), mappings.end());
  return {};
}

Status SharedMemory::connect(const KeyExchange& exchange, const Deadline& deadline) {
  Transport* transport = exchange.transport;
  words_memory_ = transport;
  std::vector<std::int32_t> sources = sources_of(exchange.plan, transport->rank());
  std::erase_if(sources, [&](std::int32_t peer) { return !exchange.shares_memory(peer); });
  const std::vector<std::int32_t> readers = readers_of(exchange);
  read_by_.assign(static_cast<std::size_t>(transport->num_ranks()), false);
  // No step ends before all letters of it are sent, whatever went wrong here: the others wait for them, and all learn
  // of it by the vote.
  Status status;
  std::vector<std::byte> mine;
  if (!readers.empty()) {
    auto word = transport->allocate(sizeof(std::int64_t));
    if (word.ok()) {
      word_ = *word;
      mine = write_keys(exchange);
    } else {
      status = word.take_status();
    }
  }
  // The sizes of the keys, the keys, and whether they could be used.
  Mail sizes(exchange, deadline);
  for (const std::int32_t peer : sources) RESHARD_TRY(sizes.recv(peer, sizeof(std::int64_t)));
  ByteWriter size;
  size.add(static_cast<std::int64_t>(mine.size()));
  const std::vector<std::byte> my_size = size.take();
  for (const std::int32_t peer : readers) RESHARD_TRY(sizes.send(peer, my_size));
  RESHARD_TRY(sizes.wait());

  Mail keys(exchange, deadline);
  for (std::size_t i = 0; i < sources.size(); ++i) {
    const std::int64_t size_bytes = ByteReader(sizes.received(i)).number();
    if (size_bytes < 0 || size_bytes > kMostKeysBytes) {
      return {RESHARD_ERR_TRANSPORT, fmt::format("rank {} announced {} bytes of memory keys", sources[i], size_bytes)};
    }
    RESHARD_TRY(keys.recv(sources[i], static_cast<std::size_t>(size_bytes)));
  }
  for (const std::int32_t peer : readers) RESHARD_TRY(keys.send(peer, mine));
  RESHARD_TRY(keys.wait());

  Mail answers(exchange, deadline);
  for (const std::int32_t peer : readers) RESHARD_TRY(answers.recv(peer, 1));
  for (std::size_t i = 0; i < sources.size(); ++i) {
    if (status.ok()) status = map_source(exchange, sources[i], keys.received(i));
    const bool is_read = sources_.contains(sources[i]);
    RESHARD_TRY(answers.send(sources[i], {is_read ? kYes : kNo}));
  }
  RESHARD_TRY(answers.wait());
  for (std::size_t i = 0; i < readers.size(); ++i) read_by_[RankId(readers[i])] = answers.received(i)[0] == kYes;
  return status;
}

void SharedMemory::disconnect() {
  unmap(&mappings_);
  if (word_ != nullptr) static_cast<void>(words_memory_->free(std::exchange(word_, nullptr)).ok());
}

}  // namespace reshard
