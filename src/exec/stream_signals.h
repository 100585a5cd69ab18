// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "src/device/flags.h"
#include "src/device/memory.h"
#include "src/device/stream.h"
#include "src/exec/signal_map.h"
#include "src/transport/transport.h"

namespace reshard {

/// Who exchanges keys of flags, and with what.
struct SignalExchange {
  Transport* transport = nullptr;
  PeerMemory* tensors = nullptr;  ///< exports and maps the rows of flags, as it does the buffers
  std::uint64_t tag = 0;
};

/// Flags by which the streams of ranks that map each other's memory tell each other how far they are, without a host.
/// Each holds the number of the run that it was last raised for; that is counted by the run itself, on the device, so
/// that a captured run that is replayed counts, too.
///
/// A rank that gives a run up may let the caller change its memory while peers still read it. So it says first, in the
/// flag that its runs stand (flag 0 of its row), which was the last good one; a reader looks at that flag after it has
/// copied, and goes on only if the run stands: else its stream stops there until this rank's own host gives up, too.
/// What was read so goes nowhere, and no later event of the run is reached.
class StreamSignals {
 public:
  /// Memory of all flags of this rank, zeroed.
  static Result<std::shared_ptr<StreamSignals>> create(std::int32_t device, SignalMap map);
  ~StreamSignals() { disconnect(); }
  StreamSignals(const StreamSignals&) = delete;
  StreamSignals& operator=(const StreamSignals&) = delete;

  /// With all lenders and readers, each of which must call it, also with `mine` not ok: then they are told that there
  /// is no key. False: a row could not be mapped, here or there.
  static Result<bool> exchange(const SignalExchange& exchange, const SignalMap& map, StreamSignals* signals,
                               const Deadline& deadline);

  /// Unmaps the peers' rows. No stream raises a flag of theirs any more, or looks at one.
  void disconnect();

  /// After exchange(): puts the addresses of all flags on the device. A run then uploads nothing.
  Status upload(const Stream& stream);

  // ---- what a run queues; nothing where no peer is concerned

  Status begin(const Stream& stream) const;  ///< counts the run
  Status lend_source(const Stream& stream) const;
  Status lend(std::size_t stage, const Stream& stream) const;
  Status await_lenders(std::size_t stage, const Stream& stream) const;  ///< before the copies of a stage's reads
  Status end_read(std::size_t stage, const Stream& stream) const;       ///< after them
  Status await_sources(std::size_t pull, const Stream& stream) const;   ///< the same of a pull
  Status end_pull(std::size_t pull, const Stream& stream) const;
  Status await_readers(std::size_t index, const Stream& stream) const;  ///< StreamProgram::awaited
  Status end(const Stream& stream) const;                               ///< tells the host of the end

  // ---- on the host

  bool has_peers() const { return !map_.empty(); }  ///< ranks that read this one's memory, or whose it reads

  std::int64_t num_begun() const;  ///< runs, as of now
  std::int64_t num_ended() const;

  /// Whether the device is between the beginning and the end of a run. Of one that a graph launches, in streams that
  /// nobody here knows, it is all that tells. After expect_end(): until an end has been reached.
  bool is_in_run() const;
  /// Before end_waits(), by which an end no longer says of which run it is.
  void expect_end();

  /// Tells the readers that runs after `last_good` do not stand; by the deadline, or an error. Before end_waits().
  Status withdraw(std::int64_t last_good, const Deadline& deadline);

  /// Ends all waits of this rank's streams, also those to come. What the streams do then is of no run: no flag is
  /// raised by it any more, where the device takes that word by the deadline.
  Status end_waits(const Deadline& deadline);

 private:
  /// Of addresses_, once they are on the device.
  struct List {
    std::int64_t begin = 0;
    std::int64_t count = 0;
  };
  /// Words of this rank's own, each in a line of its own: `on_device` counts runs; pinned ones are the host's.
  struct PinnedWords {
    alignas(64) std::uint64_t begun;
    alignas(64) std::uint64_t ended;
    alignas(64) std::uint64_t last_good;
    alignas(64) std::uint64_t no_run;  // 0: a flag that is raised for it says nothing to anybody
    alignas(64) std::uint32_t abort;
    alignas(64) std::uint32_t outcome;
  };
  struct Peer {
    PeerMemory* memory = nullptr;
    MemoryKey key;
    void* row = nullptr;               // the peer's, as this rank's device sees it
    std::int64_t first_as_reader = 0;  // in it: what this rank tells a reader
    std::int64_t first_as_lender = 0;  // what it tells a lender
  };

  StreamSignals(std::int32_t device, SignalMap map, ReadinessFlags row, Stream stream);
  Status map_row(const SignalExchange& exchange, std::int32_t rank, const std::vector<std::byte>& letter);
  std::vector<std::byte> letter_to(const MemoryKey& key, std::int32_t rank) const;
  Status set_up(std::int32_t device);
  List list(const std::vector<std::uint64_t*>& addresses);
  std::vector<std::uint64_t*> own_flags(const std::vector<SignalMap::Flag>& flags,
                                        const std::map<std::int32_t, SignalMap::Section>& sections) const;
  std::vector<std::uint64_t*> flags_at(const std::vector<SignalMap::Flag>& flags, bool at_readers) const;
  std::vector<std::uint64_t*> words_of(const std::vector<SignalMap::Flag>& flags) const;
  void make_lists();
  Status set(const List& flags, const Stream& stream) const;
  Status wait(const List& flags, const Stream& stream) const;
  Status write(void* word, const std::uint64_t* value, const Deadline& deadline) const;
  PinnedWords& words() const { return *static_cast<PinnedWords*>(pinned_.data()); }
  std::uint64_t* const* on_device(const List& flags) const;
  std::uint64_t* epoch() const { return static_cast<std::uint64_t*>(epoch_.data()); }

  std::int32_t device_;
  bool awaits_end_ = false;  // see expect_end()
  SignalMap map_;
  ReadinessFlags row_;
  Stream alert_;  // nothing else is queued in it, so that withdraw() waits for nothing
  PinnedMemory pinned_;
  DeviceMemory epoch_;
  std::map<std::int32_t, Peer> peers_;
  std::vector<std::uint64_t*> addresses_;  // until they are uploaded
  DeviceMemory uploaded_;
  List lend_source_;
  List end_;
  std::vector<List> lend_;
  std::vector<List> await_lenders_;
  std::vector<List> check_reads_;
  std::vector<List> end_reads_;
  std::vector<List> await_sources_;
  std::vector<List> check_pulls_;
  std::vector<List> end_pulls_;
  std::vector<List> await_readers_;
};

}  // namespace reshard
