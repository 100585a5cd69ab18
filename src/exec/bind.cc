// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/exec/bind.h"

#include <fmt/format.h>

#include <algorithm>
#include <mutex>
#include <set>

#include "src/base/bytes.h"
#include "src/exec/bind_streams.h"
#include "src/exec/cuda_copier.h"
#include "src/exec/stream_driver.h"
#include "src/exec/tags.h"
#include "src/plan/replan.h"
#include "src/transport/vote.h"

namespace reshard {
namespace {

/// What a rank tells the others in the first phase.
struct Answer {
  std::int64_t code = RESHARD_OK;
  std::string message;
  std::int64_t hash = 0;
  std::int64_t number = 0;  ///< proposed for the binding
  std::int64_t driver = 0;  ///< 1: in streams
  std::int64_t src_digest = 0;
  std::int64_t dst_digest = 0;  ///< of the layouts that the plan is for: says what of it differs
  std::int64_t has_comm = 0;    ///< 1: follows a binding whose communicator is of use
  BindCall call = BindCall::kCreateBinding;

  std::vector<std::byte> write() const {
    ByteWriter writer;
    write_call(call, &writer);
    writer.add(code);
    writer.add(message);
    writer.add(hash);
    writer.add(number);
    writer.add(driver);
    writer.add(src_digest);
    writer.add(dst_digest);
    writer.add(has_comm);
    return writer.take();
  }
  /// What follows the call.
  static Answer read(ByteReader* reader) {
    Answer answer;
    answer.code = reader->number();
    answer.message = reader->text();
    answer.hash = reader->number();
    answer.number = reader->number();
    answer.driver = reader->number();
    answer.src_digest = reader->number();
    answer.dst_digest = reader->number();
    answer.has_comm = reader->number();
    return answer;
  }
};

const char* driver_name(const Answer& answer) {
  return answer.driver == 0 ? "over the comm's own messages" : "over NCCL";
}

/// What is not the same about plans that differ: a rank that missed a new table of experts has another destination.
const char* difference(const Answer& answer, const Answer& mine) {
  if (answer.dst_digest != mine.dst_digest) return ", for another destination layout (is its table of experts stale?)";
  return answer.src_digest != mine.src_digest ? ", for another source layout" : "";
}

Status compare(const std::vector<Answer>& answers, const Answer& mine) {
  for (std::size_t r = 0; r < answers.size(); ++r) {
    const Answer& answer = answers[r];
    if (answer.code != RESHARD_OK) {
      return {static_cast<reshard_status_t>(answer.code), fmt::format("on rank {}: {}", r, answer.message)};
    }
    if (answer.driver != mine.driver) {
      return invalid_argument(fmt::format("rank {} binds {}, and this rank {}; choose the same driver on every rank", r,
                                          driver_name(answer), driver_name(mine)));
    }
    if (answer.hash != mine.hash) {
      return {
          RESHARD_ERR_PLAN_MISMATCH,
          fmt::format("rank {} has plan {:016x}{} and this rank plan {:016x}; make the plan from the same layouts and "
                      "options, and bind in the same order, on every rank",
                      r, static_cast<std::uint64_t>(answer.hash), difference(answer, mine),
                      static_cast<std::uint64_t>(mine.hash))};
    }
  }
  return {};
}

std::int64_t tag_bits(std::int64_t number) {
  return number & ((std::int64_t{1} << kBindingBits) - 1);
}

}  // namespace

Result<std::unique_ptr<Copier>> make_host_copier() {
  return std::unique_ptr<Copier>(std::make_unique<HostCopier>());
}

MakeCopier cuda_copier_maker(std::int32_t device, const Transport* transport) {
  return [device, transport]() -> Result<std::unique_ptr<Copier>> {
    const bool is_moved = transport->moves(MemorySpace::kDevice);
    RESHARD_TRY(std::unique_ptr<Copier> copier,
                CudaCopier::create(device, is_moved ? MemorySpace::kDevice : MemorySpace::kPinned));
    return copier;
  };
}

std::int64_t BindingNumbers::propose() const {
  std::int64_t number = next;
  const auto is_taken = [&] {
    return std::any_of(alive.begin(), alive.end(),
                       [&](std::int64_t other) { return tag_bits(other) == tag_bits(number); });
  };
  while (is_taken()) ++number;
  return number;
}

Result<std::unique_ptr<Binding>> Binding::create(const BindOptions& options) {
  const std::lock_guard turn(options.transport->turn());
  std::unique_ptr<Binding> binding(new Binding(options));
  RESHARD_TRY(binding->agree(options));
  const Status prepared = options.nccl.has_value() ? binding->prepare_streams(options) : binding->prepare(options);
  // Either all ranks could prepare, or none has a binding.
  const Status voted = vote(options.transport, prepared, Deadline(options.timeout_us));
  binding->is_bound_ = voted.ok();
  if (voted.ok()) return binding;
  binding->release();
  return voted;
}

Binding::Binding(const BindOptions& options)
    : plan_(options.plan),
      transport_(options.transport),
      numbers_(options.numbers),
      make_copier_(options.make_copier),
      nccl_(options.nccl),
      peer_memory_(options.peer_memory == nullptr ? options.transport : options.peer_memory),
      holds_groups_(options.holds_groups),
      src_(options.src),
      dst_(options.dst) {
  if (numbers_ != nullptr) return;
  own_numbers_ = options.older == nullptr ? std::make_shared<BindingNumbers>() : options.older->own_numbers_;
  numbers_ = own_numbers_.get();
}

Status keep_buffers(const KeptSide& side, std::vector<BoundBuffer>* buffers) {
  std::set<std::int64_t> given;
  for (const BoundBuffer& buffer : *buffers) given.insert(buffer.id);
  const std::vector<std::int64_t> wanted = side.layout.buffers_of(side.rank);
  for (const BoundBuffer& buffer : side.bound) {
    if (given.count(buffer.id) > 0 || !std::binary_search(wanted.begin(), wanted.end(), buffer.id)) continue;
    const std::string& was = at(side.before.buffers(), buffer.id).name;
    const std::string& is = at(side.layout.buffers(), buffer.id).name;
    if (was != is) {
      return invalid_argument(fmt::format(
          "{} buffer {} of rank {} was \"{}\" and is \"{}\" in the new plan's layout; give it with the update",
          side.name, buffer.id, side.rank, was, is));
    }
    buffers->push_back(buffer);
    buffers->back().is_kept = true;
  }
  return {};
}

Result<std::unique_ptr<Binding>> Binding::update(const Binding& older, UpdateOptions options) {
  BindOptions all;
  all.older = &older;
  all.transport = older.transport_;
  all.numbers = older.own_numbers_ == nullptr ? older.numbers_ : nullptr;
  all.make_copier = older.make_copier_;
  all.nccl = older.nccl_;
  all.peer_memory = older.peer_memory_;
  all.holds_groups = older.holds_groups_;
  all.plan = std::move(options.plan);
  all.src = std::move(options.src);
  all.dst = std::move(options.dst);
  all.timeout_us = options.timeout_us;
  all.call = options.call;
  all.arguments = std::move(options.arguments);
  if (all.arguments.ok()) all.arguments = older.check_follower(&all);
  return create(all);
}

/// Whether a binding can follow now; completes its buffers.
Status Binding::check_follower(BindOptions* options) const {
  if (driver_->is_running()) {
    return {RESHARD_ERR_INVALID_STATE, "a run of the binding has not finished; call finish first"};
  }
  const Plan& plan = *options->plan;
  const std::int32_t rank = transport_->rank();
  if (plan.num_ranks != plan_->num_ranks) return {};  // as check_bind_options() says of any binding
  RESHARD_TRY(keep_buffers({"source", *plan_->src, src_, *plan.src, rank}, &options->src));
  return keep_buffers({"destination", *plan_->dst, dst_, *plan.dst, rank}, &options->dst);
}

/// First phase: arguments, plans and the binding's number. A rank takes part whatever is wrong with its arguments.
Status Binding::agree(const BindOptions& options) {
  sweep_deserted();
  Status arguments = check_bind_options(options, &memory_);
  if (arguments.ok()) arguments = allocate_scratch();
  const std::int64_t hash = plan_ == nullptr ? 0 : static_cast<std::int64_t>(plan_->hash);
  const std::int64_t driver = options.nccl.has_value() ? 1 : 0;
  Answer mine{arguments.code(), arguments.message(), hash, numbers_->propose(), driver};
  if (plan_ != nullptr) {
    mine.src_digest = static_cast<std::int64_t>(plan_->src->digest());
    mine.dst_digest = static_cast<std::int64_t>(plan_->dst->digest());
  }
  mine.call = options.call;
  if (options.older != nullptr) mine.has_comm = options.older->driver_->sound_comm() != nullptr ? 1 : 0;
  RESHARD_TRY(const auto blobs, transport_->allgather(mine.write(), Deadline(options.timeout_us)));
  std::vector<Answer> answers;
  std::int64_t number = 0;
  for (std::size_t r = 0; r < blobs.size(); ++r) {
    ByteReader reader(blobs[r]);
    const Status call = read_same_call(options.call, static_cast<std::int32_t>(r), &reader);
    if (!call.ok()) return arguments.ok() ? call : arguments;
    answers.push_back(Answer::read(&reader));
    if (!reader.ok()) return {RESHARD_ERR_TRANSPORT, fmt::format("rank {} sent a malformed answer to bind", r)};
    number = std::max(number, answers.back().number);
  }
  // Whatever comes of this binding, its number is not used again.
  numbers_->next = number + 1;
  // A rank whose own arguments are wrong says so in its own words.
  if (!arguments.ok()) return arguments;
  RESHARD_TRY(compare(answers, mine));
  const auto has_comm = [](const Answer& answer) { return answer.has_comm != 0; };
  shares_comm_ = std::all_of(answers.begin(), answers.end(), has_comm);
  number_ = number;
  numbers_->alive.insert(number_);
  return {};
}

/// Before the first exchange, since memory that is missing is to be told before anybody waits for this rank's keys.
Status Binding::allocate_scratch() {
  RESHARD_TRY(scratch_.allocate(*plan_, transport_->rank(), peer_memory_));
  for (const BoundBuffer& buffer : scratch_.src()) at(memory_.src, buffer.id) = buffer.data;
  for (const BoundBuffer& buffer : scratch_.dst()) at(memory_.dst, buffer.id) = buffer.data;
  return {};
}

/// Second phase: everything that can fail for want of memory or of a peer.
Status Binding::prepare(const BindOptions& options) {
  RESHARD_TRY(connect(options));
  RESHARD_TRY(std::unique_ptr<Copier> copier, make_copier_());
  RankLinks links = shared_.links();
  for (std::int32_t rank = 0; rank < transport_->num_ranks(); ++rank) {
    links.stages_sends.push_back(!transport_->takes_back_sends(rank, copier->tensor_space()));
    links.stages_receives.push_back(!transport_->takes_back_receives(rank));
  }
  links.stages_all = !transport_->moves(copier->tensor_space());
  adopt(build_schedule(*plan_, transport_->rank(), links));
  RESHARD_TRY(std::shared_ptr<Flight> flight, build_flight(options.older));
  volume_.staging_bytes = static_cast<std::int64_t>(flight->bound.copier->staging_bytes());
  driver_ = std::make_unique<PollDriver>(
      std::move(flight), [this] { return build_flight(); }, control_.get(), transport_);
  return {};
}

/// The same for a driver in streams. Its parts agree with their like on other ranks, and take part whatever went wrong
/// here before.
Status Binding::prepare_streams(const BindOptions& options) {
  Status connected = connect(options);
  const StreamBindOptions stages{*plan_,
                                 transport_,
                                 peer_memory_,
                                 *options.nccl,
                                 tag_of(number_, 0, TagKind::kKeys),
                                 memory_,
                                 shared_.links(),
                                 shares_comm_ ? options.older->driver_->sound_comm() : nullptr};
  RESHARD_TRY(std::shared_ptr<StreamWork> work,
              bind_streams(stages, std::move(connected), Deadline(options.timeout_us)));
  adopt(work->stages().schedule);
  volume_.staging_bytes = work->stages().staging_bytes();
  driver_ = std::make_unique<StreamDriver>(std::move(work), control_.get(), transport_, options.timeout_us);
  return {};
}

/// Maps what can be read in place.
Status Binding::connect(const BindOptions& options) {
  std::vector<BoundBuffer> src = options.src;
  std::vector<BoundBuffer> dst = options.dst;
  src.insert(src.end(), scratch_.src().begin(), scratch_.src().end());
  dst.insert(dst.end(), scratch_.dst().begin(), scratch_.dst().end());
  const std::uint64_t tag = tag_of(number_, 0, TagKind::kKeys);
  const KeyExchange exchange{*plan_, transport_, peer_memory_, tag, src, dst};
  const SharedMemory* const older = options.older == nullptr ? nullptr : &options.older->shared_;
  RESHARD_TRY(shared_.connect(exchange, older, Deadline(options.timeout_us)));
  memory_.peer_src = shared_.sources();
  memory_.peer_dst = shared_.destinations();
  return {};
}

void Binding::adopt(Schedule schedule) {
  schedule_ = std::move(schedule);
  volume_ = {schedule_.bytes_same_rank, schedule_.bytes_mapped, schedule_.bytes_sent,
             schedule_.bytes_received,  schedule_.num_sends(),  0,
             scratch_.size_bytes()};
  control_ = std::make_shared<Control>(peers_of(schedule_), tag_of(number_, 0, TagKind::kControl), transport_);
}

/// By tensor of this plan: whether it lies where it did, on both sides, under the same numbers.
std::vector<bool> Binding::unchanged_tensors(const Plan& older) const {
  const std::vector<bool> src = same_places(*older.src, *plan_->src);
  const std::vector<bool> dst = same_places(*older.dst, *plan_->dst);
  std::vector<bool> is_unchanged;
  for (const PlanTensor& tensor : plan_->tensors) {
    is_unchanged.push_back(tensor.src >= 0 && tensor.dst >= 0 && at(src, tensor.src) && at(dst, tensor.dst));
  }
  return is_unchanged;
}

/// `older`: the binding before, whose lists of copies are taken where they are the same, and whose staging where
/// nothing uses it.
Result<std::shared_ptr<Flight>> Binding::build_flight(const Binding* older) const {
  RESHARD_TRY(std::unique_ptr<Copier> copier, make_copier_());
  std::optional<OlderSchedule> lists;
  if (older != nullptr) {
    const Copier* const idle = older->driver_->idle_copier();
    const auto budget = static_cast<std::size_t>(plan_->options.staging_bytes);
    if (idle != nullptr && idle->staging_bytes() <= budget) copier->share_staging(*idle);
    if (older->driver_->bound() != nullptr) {
      lists.emplace(
          OlderSchedule{*older->plan_, *older->driver_->bound(), older->memory_, unchanged_tensors(*older->plan_)});
    }
  }
  const OlderSchedule* const kept = lists.has_value() ? &*lists : nullptr;
  RESHARD_TRY(BoundSchedule bound, bind_schedule(*plan_, schedule_, memory_, std::move(copier), kept));
  Wiring wiring{number_, control_.get(), shared_.word(), shared_.words()};
  auto flight = std::make_shared<Flight>(std::move(bound), std::move(wiring), transport_);
  if (holds_groups_) flight->hold_groups();
  return flight;
}

std::int64_t Binding::group_at(std::int64_t position) const {
  const auto count = static_cast<std::int64_t>(plan_->groups.size());
  return at(plan_->groups, (position + at(plan_->first_groups, transport_->rank())) % count);
}

void Binding::sweep_deserted() {
  std::erase_if(numbers_->deserted,
                [&](const auto& entry) { return transport_->discard(entry.first, entry.second) > 0; });
}

Binding::~Binding() {
  if (!is_bound_) return;  // create() has released it
  const std::lock_guard turn(transport_->turn());
  release();
}

/// With the transport's turn.
void Binding::release() {
  bool is_idle = true;
  if (is_bound_) {
    is_idle = driver_->retire();
    const std::uint64_t tag = tag_of(number_, 0, TagKind::kControl);
    for (const std::int32_t rank : control_->staying()) numbers_->deserted.emplace_back(rank, tag);
    if (!control_->close()) transport_->keep(control_);
  }
  numbers_->alive.erase(number_);
  driver_.reset();
  control_.reset();
  shared_.disconnect();
  is_idle ? scratch_.release() : scratch_.abandon();
}

}  // namespace reshard
