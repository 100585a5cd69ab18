// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "src/exec/keys.h"
#include "src/exec/poll_driver.h"
#include "src/exec/scratch.h"
#include "src/transport/nccl/comm.h"

namespace reshard {

/// Numbers of the bindings of one transport, which tell their messages apart. The ranks agree on each: a rank proposes
/// one that it has not seen, and the highest proposal is taken. So ranks whose bindings failed at different points, or
/// that count differently for any other reason, are of one mind again with the next.
struct BindingNumbers {
  std::int64_t next = 1;         ///< not seen yet; 64 bits do not run out
  std::set<std::int64_t> alive;  ///< of the bindings that live

  /// The first number from `next` on whose bits in a tag are those of no living binding.
  std::int64_t propose() const;

  /// Control streams of bindings that were destroyed while their peers still might write to them: rank and tag. What
  /// came is thrown away whenever the next binding is made.
  std::vector<std::pair<std::int32_t, std::uint64_t>> deserted;
};

/// Makes who copies for a program, by where the buffers are. A binding asks again only where what a failed run has
/// begun cannot be waited for (PollDriver).
using MakeCopier = std::function<Result<std::unique_ptr<Copier>>()>;
Result<std::unique_ptr<Copier>> make_host_copier();
/// For buffers on a device, and staging there too if the transport moves device memory. The transport must outlive it.
MakeCopier cuda_copier_maker(std::int32_t device, const Transport* transport);

/// That a binding runs in streams of a device, with NCCL between ranks (StreamDriver).
struct NcclChoice {
  std::int32_t device = 0;  ///< of this rank's buffers
  NcclOptions comm;
};

struct BindOptions {
  std::shared_ptr<const Plan> plan;
  Transport* transport = nullptr;  ///< must outlive the binding
  std::vector<BoundBuffer> src;
  std::vector<BoundBuffer> dst;
  BindingNumbers* numbers = nullptr;  ///< of the transport, outlives the binding; null for its only one
  std::int64_t timeout_us = 0;
  MakeCopier make_copier = make_host_copier;  ///< not asked where `nccl` is given
  std::optional<NcclChoice> nccl = {};        ///< by all ranks or by none; none: PollDriver
  PeerMemory* peer_memory = nullptr;          ///< of the buffers; must outlive the binding. Null: the transport's.
  /// Memory of destinations is used again: the buffers of a group may lie where those of an earlier one do that cannot
  /// be open with it, since groups stay open until Driver::release_groups(). For the polling driver.
  bool holds_groups = false;
  Status arguments = {};  ///< what the caller found wrong already; then only transport and timeout_us need be set
};

/// Whether plan and buffers fit this rank; on success fills in the buffers.
Status check_bind_options(const BindOptions& options, RankMemory* memory);

/// A plan bound to this rank's memory.
class Binding {
 public:
  /// Collective, in two phases; either all ranks have a binding or none has. Holds the transport's turn. First all
  /// ranks compare plans and arguments. Then memory keys go to the ranks that read them, every rank builds its schedule
  /// and allocates its memory, and all say whether they could. Errors as reshard_binding_create documents.
  static Result<std::unique_ptr<Binding>> create(const BindOptions& options);
  ~Binding();
  Binding(const Binding&) = delete;
  Binding& operator=(const Binding&) = delete;

  Driver& driver() { return *driver_; }
  const Plan& plan() const { return *plan_; }
  const Schedule& schedule() const { return schedule_; }

  /// The group at this position of the order in which this rank gets them, as the caller numbers groups.
  std::int64_t group_at(std::int64_t position) const;

  /// Collective, after a run: whether every destination of every rank holds what its sources hold (verify.h). Takes the
  /// transport's turn. RESHARD_ERR_DATA_MISMATCH on every rank, naming tensors and ranks; RESHARD_ERR_INVALID_STATE in
  /// a run or before the first, RESHARD_ERR_NOT_SUPPORTED for memory of a device.
  Status verify(const Deadline& deadline);

  /// Bytes and counts of one run.
  struct Volume {
    std::int64_t bytes_same_rank = 0;
    std::int64_t bytes_mapped = 0;
    std::int64_t bytes_sent = 0;
    std::int64_t bytes_received = 0;
    std::int64_t messages_sent = 0;
    std::int64_t staging_bytes = 0;
    std::int64_t scratch_bytes = 0;  ///< of conversions; beside the staging and its budget
  };
  const Volume& volume() const { return volume_; }

 private:
  Binding(const BindOptions& options, BindingNumbers* numbers)
      : plan_(options.plan),
        transport_(options.transport),
        numbers_(numbers),
        make_copier_(options.make_copier),
        holds_groups_(options.holds_groups),
        space_(tensor_memory(options)->space()) {}

  Status agree(const BindOptions& options);
  PeerMemory* tensor_memory(const BindOptions& options) const;
  Status allocate_scratch(const BindOptions& options);
  Status check_verifiable() const;
  Status compare_hashes(const std::vector<std::uint64_t>& sums, const Deadline& deadline);
  Status prepare(const BindOptions& options);
  Status prepare_streams(const BindOptions& options);
  Status connect(const BindOptions& options);
  void adopt(Schedule schedule);
  Result<std::shared_ptr<Flight>> build_flight() const;
  void sweep_deserted();
  void release();

  std::shared_ptr<const Plan> plan_;
  Transport* transport_;
  BindingNumbers own_numbers_;  // where none are given
  BindingNumbers* numbers_;
  MakeCopier make_copier_;
  bool holds_groups_;
  MemorySpace space_;        // of the buffers
  std::int64_t number_ = 0;  // 0: none was agreed on
  bool is_bound_ = false;    // on all ranks
  RankMemory memory_;
  Scratch scratch_;
  SharedMemory shared_;
  Schedule schedule_;
  Volume volume_;
  std::shared_ptr<Control> control_;
  std::unique_ptr<Driver> driver_;
};

}  // namespace reshard
