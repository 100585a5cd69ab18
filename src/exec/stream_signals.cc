// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/exec/stream_signals.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <limits>
#include <set>
#include <thread>
#include <utility>

#include "kernels/cuda/launch.h"
#include "src/base/bytes.h"
#include "src/device/device.h"
#include "src/exec/mail.h"

namespace reshard {
namespace {

using Flags = std::vector<SignalMap::Flag>;
using Addresses = std::vector<std::uint64_t*>;

// Of the flag that runs stand, while all do.
constexpr std::uint8_t kAllOnes = 0xFF;

// In place of the run that ended last, while the end of one that has failed is awaited.
constexpr std::uint64_t kNoEnd = std::numeric_limits<std::uint64_t>::max();

// Only the host ends a wait: it knows the deadline, and what must be said before what follows the wait may run.
constexpr std::int64_t kForeverNs = std::numeric_limits<std::int64_t>::max();

std::uint64_t* flag_at(void* row, std::int64_t index) {
  return static_cast<std::uint64_t*>(ReadinessFlags::address(row, index));
}

std::set<std::int32_t> ranks_of(const SignalMap& map) {
  std::set<std::int32_t> ranks;
  for (const auto* sections : {&map.lenders(), &map.readers()}) {
    for (const auto& [rank, section] : *sections) ranks.insert(rank);
  }
  return ranks;
}

}  // namespace

StreamSignals::StreamSignals(std::int32_t device, SignalMap map, ReadinessFlags row, Stream stream)
    : device_(device), map_(std::move(map)), row_(std::move(row)), alert_(std::move(stream)) {}

Result<std::shared_ptr<StreamSignals>> StreamSignals::create(std::int32_t device, SignalMap map) {
  RESHARD_TRY(ReadinessFlags row, ReadinessFlags::create(device, map.num_flags()));
  RESHARD_TRY(Stream stream, Stream::create(device));
  std::shared_ptr<StreamSignals> signals(new StreamSignals(device, std::move(map), std::move(row), std::move(stream)));
  RESHARD_TRY(signals->set_up(device));
  return signals;
}

Status StreamSignals::set_up(std::int32_t device) {
  RESHARD_TRY(pinned_, PinnedMemory::allocate(device, sizeof(PinnedWords)));
  new (pinned_.data()) PinnedWords{};
  RESHARD_TRY(epoch_, DeviceMemory::allocate(device, sizeof(std::uint64_t)));
  RESHARD_TRY(fill_async(epoch_.data(), 0, sizeof(std::uint64_t), alert_));
  RESHARD_TRY(fill_async(flag_at(row_.base(), 0), kAllOnes, sizeof(std::uint64_t), alert_));
  return alert_.synchronize();
}

void StreamSignals::disconnect() {
  for (const auto& [rank, peer] : peers_) peer.memory->unmap(rank, peer.key, peer.row);
  peers_.clear();
}

/// What a peer is told: the key of this rank's row, and where in it are the flags that the peer raises.
std::vector<std::byte> StreamSignals::letter_to(const MemoryKey& key, std::int32_t rank) const {
  ByteWriter writer;
  writer.add(key);
  for (const auto* sections : {&map_.lenders(), &map_.readers()}) {
    const auto found = sections->find(rank);
    writer.add(found == sections->end() ? std::int64_t{0} : found->second.first);
    writer.add(found == sections->end() ? std::int64_t{0} : found->second.count);
  }
  return writer.take();
}

/// Leaves nothing in peers_ where the row cannot be mapped.
Status StreamSignals::map_row(const SignalExchange& exchange, std::int32_t rank, const std::vector<std::byte>& letter) {
  ByteReader reader(letter);
  Peer peer{exchange.tensors, reader.blob(), nullptr, 0, 0};
  peer.first_as_reader = reader.number();  // of the peer's lenders: this rank lends, the peer reads
  const std::int64_t num_as_reader = reader.number();
  peer.first_as_lender = reader.number();
  const std::int64_t num_as_lender = reader.number();
  if (!reader.ok()) return {RESHARD_ERR_TRANSPORT, fmt::format("rank {} sent malformed keys of flags", rank)};
  if (peer.key.empty()) return {};
  const auto count_of = [rank](const std::map<std::int32_t, SignalMap::Section>& sections) {
    const auto found = sections.find(rank);
    return found == sections.end() ? std::int64_t{0} : found->second.count;
  };
  if (num_as_reader != count_of(map_.readers()) || num_as_lender != count_of(map_.lenders())) {
    return {RESHARD_ERR_INTERNAL,
            fmt::format("rank {} counts {} and {} flags with this rank, which counts {} and {}", rank, num_as_reader,
                        num_as_lender, count_of(map_.readers()), count_of(map_.lenders()))};
  }
  RESHARD_TRY(peer.row, exchange.tensors->map(rank, peer.key));
  if (peer.row != nullptr) peers_.emplace(rank, std::move(peer));
  return {};
}

Result<bool> StreamSignals::exchange(const SignalExchange& exchange, const SignalMap& map, StreamSignals* signals,
                                     const Deadline& deadline) {
  const std::set<std::int32_t> ranks = ranks_of(map);
  MemoryKey key;
  if (signals != nullptr) key = exchange.tensors->export_memory(signals->row_.base(), signals->row_.size_bytes());
  const auto letter_to = [&](std::int32_t rank) {
    if (signals != nullptr) return signals->letter_to(key, rank);
    ByteWriter writer;
    writer.add(MemoryKey());
    for (int i = 0; i < 4; ++i) writer.add(std::int64_t{0});
    return writer.take();
  };
  Mail sizes(exchange.transport, exchange.tag, deadline);
  Mail letters(exchange.transport, exchange.tag, deadline);
  for (const std::int32_t rank : ranks) {
    RESHARD_TRY(sizes.recv(rank, sizeof(std::int64_t)));
    ByteWriter size;
    size.add(static_cast<std::int64_t>(letter_to(rank).size()));
    RESHARD_TRY(sizes.send(rank, size.take()));
  }
  RESHARD_TRY(sizes.wait());
  std::size_t index = 0;
  for (const std::int32_t rank : ranks) {
    const std::int64_t size_bytes = ByteReader(sizes.received(index++)).number();
    if (size_bytes < 0 || size_bytes > (1 << 20)) {
      return Status{RESHARD_ERR_TRANSPORT, fmt::format("rank {} announced {} bytes of keys", rank, size_bytes)};
    }
    RESHARD_TRY(letters.recv(rank, static_cast<std::size_t>(size_bytes)));
    RESHARD_TRY(letters.send(rank, letter_to(rank)));
  }
  RESHARD_TRY(letters.wait());
  if (signals == nullptr) return false;
  index = 0;
  for (const std::int32_t rank : ranks) RESHARD_TRY(signals->map_row(exchange, rank, letters.received(index++)));
  return signals->peers_.size() == ranks.size();
}

Addresses StreamSignals::own_flags(const Flags& flags,
                                   const std::map<std::int32_t, SignalMap::Section>& sections) const {
  Addresses addresses;
  for (const SignalMap::Flag& flag : flags) {
    addresses.push_back(flag_at(row_.base(), sections.at(flag.peer).first + flag.number));
  }
  return addresses;
}

Addresses StreamSignals::flags_at(const Flags& flags, bool at_readers) const {
  Addresses addresses;
  for (const SignalMap::Flag& flag : flags) {
    const Peer& peer = peers_.at(flag.peer);
    addresses.push_back(flag_at(peer.row, (at_readers ? peer.first_as_reader : peer.first_as_lender) + flag.number));
  }
  return addresses;
}

/// The flags of lenders that their runs stand.
Addresses StreamSignals::words_of(const Flags& flags) const {
  Addresses addresses;
  for (const SignalMap::Flag& flag : flags) addresses.push_back(flag_at(peers_.at(flag.peer).row, 0));
  return addresses;
}

StreamSignals::List StreamSignals::list(const Addresses& addresses) {
  const auto begin = static_cast<std::int64_t>(addresses_.size());
  addresses_.insert(addresses_.end(), addresses.begin(), addresses.end());
  return {begin, static_cast<std::int64_t>(addresses.size())};
}

void StreamSignals::make_lists() {
  end_ = list({&words().ended});
  lend_source_ = list(flags_at(map_.source_readers(), true));
  for (const Flags& flags : map_.lends()) lend_.push_back(list(flags_at(flags, true)));
  for (const Flags& flags : map_.reads()) {
    await_lenders_.push_back(list(own_flags(flags, map_.lenders())));
    check_reads_.push_back(list(words_of(flags)));
    end_reads_.push_back(list(flags_at(flags, false)));
  }
  for (const Flags& flags : map_.pulls()) {
    await_sources_.push_back(list(own_flags(flags, map_.lenders())));
    check_pulls_.push_back(list(words_of(flags)));
  }
  for (const Flags& flags : map_.last_pulls()) end_pulls_.push_back(list(flags_at(flags, false)));
  for (const Flags& flags : map_.awaited()) await_readers_.push_back(list(own_flags(flags, map_.readers())));
}

Status StreamSignals::upload(const Stream& stream) {
  make_lists();
  const std::size_t size_bytes = addresses_.size() * sizeof(std::uint64_t*);
  RESHARD_TRY(uploaded_, DeviceMemory::allocate(device_, size_bytes));
  RESHARD_TRY(copy_and_wait(uploaded_.data(), addresses_.data(), size_bytes, stream));
  addresses_ = {};
  return {};
}

std::uint64_t* const* StreamSignals::on_device(const List& flags) const {
  return static_cast<std::uint64_t* const*>(uploaded_.data()) + flags.begin;
}

Status StreamSignals::set(const List& flags, const Stream& stream) const {
  if (flags.count == 0) return {};
  RESHARD_TRY(const DeviceGuard guard, DeviceGuard::enter(device_));
  return launch_set_flags(on_device(flags), flags.count, epoch(), stream.handle());
}

Status StreamSignals::wait(const List& flags, const Stream& stream) const {
  if (flags.count == 0) return {};
  RESHARD_TRY(const DeviceGuard guard, DeviceGuard::enter(device_));
  const WaitFlags wait{on_device(flags), flags.count, epoch(), &words().abort, &words().outcome, kForeverNs};
  return launch_wait_flags(wait, stream.handle());
}

Status StreamSignals::begin(const Stream& stream) const {
  RESHARD_TRY(const DeviceGuard guard, DeviceGuard::enter(device_));
  return launch_advance_epoch(epoch(), &words().begun, stream.handle());
}

Status StreamSignals::end(const Stream& stream) const {
  return set(end_, stream);
}

Status StreamSignals::lend_source(const Stream& stream) const {
  return set(lend_source_, stream);
}

Status StreamSignals::lend(std::size_t stage, const Stream& stream) const {
  return set(lend_[stage], stream);
}

Status StreamSignals::await_lenders(std::size_t stage, const Stream& stream) const {
  return wait(await_lenders_[stage], stream);
}

Status StreamSignals::end_read(std::size_t stage, const Stream& stream) const {
  RESHARD_TRY(wait(check_reads_[stage], stream));
  return set(end_reads_[stage], stream);
}

Status StreamSignals::await_sources(std::size_t pull, const Stream& stream) const {
  return wait(await_sources_[pull], stream);
}

Status StreamSignals::end_pull(std::size_t pull, const Stream& stream) const {
  RESHARD_TRY(wait(check_pulls_[pull], stream));
  return set(end_pulls_[pull], stream);
}

Status StreamSignals::await_readers(std::size_t index, const Stream& stream) const {
  return wait(await_readers_[index], stream);
}

std::int64_t StreamSignals::num_begun() const {
  return static_cast<std::int64_t>(std::atomic_ref(words().begun).load(std::memory_order_acquire));
}

std::int64_t StreamSignals::num_ended() const {
  return static_cast<std::int64_t>(std::atomic_ref(words().ended).load(std::memory_order_acquire));
}

bool StreamSignals::is_in_run() const {
  const std::uint64_t ended = std::atomic_ref(words().ended).load(std::memory_order_acquire);
  return awaits_end_ ? ended == kNoEnd : ended < static_cast<std::uint64_t>(num_begun());
}

void StreamSignals::expect_end() {
  std::uint64_t ended = std::atomic_ref(words().ended).load(std::memory_order_acquire);
  // Where the device has just written it, the end has been reached.
  if (is_in_run()) std::atomic_ref(words().ended).compare_exchange_strong(ended, kNoEnd);
  awaits_end_ = true;
}

/// Behind nothing else, since the streams of the run may wait for ever.
Status StreamSignals::write(void* word, const std::uint64_t* value, const Deadline& deadline) const {
  RESHARD_TRY(copy_async(word, value, sizeof(*value), alert_));
  while (true) {
    RESHARD_TRY(const bool is_done, alert_.is_done());
    if (is_done) return {};
    if (deadline.expired()) {
      return {RESHARD_ERR_TIMEOUT, fmt::format("the device took no word within {} us", deadline.timeout_us())};
    }
    std::this_thread::yield();
  }
}

/// The caller changes no memory before this has returned, so a reader that got what was changed finds the flag changed.
Status StreamSignals::withdraw(std::int64_t last_good, const Deadline& deadline) {
  if (map_.readers().empty()) return {};
  words().last_good = static_cast<std::uint64_t>(last_good);
  return write(flag_at(row_.base(), 0), &words().last_good, deadline);
}

Status StreamSignals::end_waits(const Deadline& deadline) {
  Status status = map_.empty() ? Status() : write(epoch_.data(), &words().no_run, deadline);
  std::atomic_ref(words().abort).store(1, std::memory_order_release);
  return status;
}

}  // namespace reshard
