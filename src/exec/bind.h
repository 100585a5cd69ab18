// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "src/exec/bind_call.h"
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

class Binding;

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
  /// The binding that this one is to follow, on all ranks or on none: see Binding::update(). Only read, and only while
  /// this one is created.
  const Binding* older = nullptr;
  BindCall call = BindCall::kCreateBinding;
};

/// What differs from a binding in one that follows it.
struct UpdateOptions {
  std::shared_ptr<const Plan> plan;
  std::vector<BoundBuffer> src;  ///< that lie elsewhere, or that the older plan has not got
  std::vector<BoundBuffer> dst;
  std::int64_t timeout_us = 0;
  Status arguments = {};  ///< as in BindOptions
  BindCall call = BindCall::kUpdateBinding;
};

/// One side of a rank's memory, in two plans that follow each other.
struct KeptSide {
  const char* name;  ///< "source" or "destination"
  const ModelLayout& before;
  const std::vector<BoundBuffer>& bound;
  const ModelLayout& layout;
  std::int32_t rank = 0;
};

/// Adds to the buffers that are given those that were bound before and that the layout still has. Error:
/// RESHARD_ERR_INVALID_ARGUMENT for one that is not given and was another one.
Status keep_buffers(const KeptSide& side, std::vector<BoundBuffer>* buffers);

/// Whether plan and buffers fit this rank; on success fills in the buffers.
Status check_bind_options(const BindOptions& options, RankMemory* memory);

/// A plan bound to this rank's memory.
class Binding {
 public:
  /// Collective, in two phases; either all ranks have a binding or none has. Holds the transport's turn. First all
  /// ranks compare plans and arguments. Then memory keys go to the ranks that read them, every rank builds its schedule
  /// and allocates its memory, and all say whether they could. Errors as reshard_binding_create documents.
  static Result<std::unique_ptr<Binding>> create(const BindOptions& options);

  /// Collective: a binding to another plan, of the same ranks, that uses again what `older` has: buffers that are not
  /// given, peers' mappings of them, RunWord and staging, the communicator in streams. Only keys of what moved, and
  /// those for new readers, are exchanged. Its schedule is made anew, and of the copies, which take longest, those of
  /// windows and of what changed: lists of whole groups, within the rank and out of peers, are kept (OlderSchedule). On
  /// success the older one is to be destroyed before the new one is started; on failure, which is every rank's, it is
  /// as it was. Errors: those of create(); RESHARD_ERR_INVALID_STATE in a run of `older`; RESHARD_ERR_INVALID_ARGUMENT
  /// for a buffer that is not given and was another one.
  static Result<std::unique_ptr<Binding>> update(const Binding& older, UpdateOptions options);

  ~Binding();
  Binding(const Binding&) = delete;
  Binding& operator=(const Binding&) = delete;

  Driver& driver() { return *driver_; }
  const Plan& plan() const { return *plan_; }
  const std::vector<BoundBuffer>& src() const { return src_; }  ///< the caller's
  const Schedule& schedule() const { return schedule_; }
  const SharedMemory& shared_memory() const { return shared_; }

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
  explicit Binding(const BindOptions& options);

  Status check_follower(BindOptions* options) const;
  Status agree(const BindOptions& options);
  Status allocate_scratch();
  Status check_verifiable() const;
  Status compare_hashes(const std::vector<std::uint64_t>& sums, const Deadline& deadline);
  Status prepare(const BindOptions& options);
  Status prepare_streams(const BindOptions& options);
  Status connect(const BindOptions& options);
  void adopt(Schedule schedule);
  std::vector<bool> unchanged_tensors(const Plan& older) const;
  Result<std::shared_ptr<Flight>> build_flight(const Binding* older = nullptr) const;
  void sweep_deserted();
  void release();

  std::shared_ptr<const Plan> plan_;
  Transport* transport_;
  std::shared_ptr<BindingNumbers> own_numbers_;  // where none are given; of a binding and those that follow it
  BindingNumbers* numbers_;
  MakeCopier make_copier_;
  std::optional<NcclChoice> nccl_;
  PeerMemory* peer_memory_;  // of the buffers
  bool holds_groups_;
  std::vector<BoundBuffer> src_;  // the caller's
  std::vector<BoundBuffer> dst_;
  std::int64_t number_ = 0;   // 0: none was agreed on
  bool is_bound_ = false;     // on all ranks
  bool shares_comm_ = false;  // all ranks can use that of the older binding again
  RankMemory memory_;
  Scratch scratch_;
  SharedMemory shared_;
  Schedule schedule_;
  Volume volume_;
  std::shared_ptr<Control> control_;
  std::unique_ptr<Driver> driver_;
};

}  // namespace reshard
