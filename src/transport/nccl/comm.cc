// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/transport/nccl/comm.h"

#include <fmt/format.h>

#include <cstring>

#include "src/transport/nccl/agreement.h"
#include "src/transport/nccl/comm_state.h"
#include "src/transport/nccl/detour.h"
#include "src/transport/vote.h"

namespace reshard {
namespace {

using State = NcclComm::State;

/// What needs no peer and belongs to a communicator: the given one, or the id of a new one.
Status prepare(State* state, NcclOffer* offer) {
  RESHARD_TRY(state->library, NcclLibrary::load(state->options.library));
  if (state->is_given()) {
    state->comm = static_cast<ncclComm_t>(state->options.given);
    return check_given(*state);
  }
  if (state->rank != 0) return {};
  ncclUniqueId id{};
  RESHARD_TRY(state->check("ncclGetUniqueId", state->nccl().ncclGetUniqueId(&id)));
  offer->id.resize(sizeof(id));
  std::memcpy(offer->id.data(), &id, sizeof(id));
  return {};
}

}  // namespace

NcclComm::NcclComm(std::shared_ptr<State> state) : state_(std::move(state)) {}

NcclComm::~NcclComm() {
  dispose(std::move(state_));
}

Result<std::unique_ptr<NcclComm>> NcclComm::create(Collective* collective, std::int32_t device,
                                                   const NcclOptions& options, const Deadline& deadline,
                                                   Status arguments) {
  auto state = std::make_shared<State>();
  state->options = options;
  state->device = device;
  state->rank = collective->rank();
  state->num_ranks = collective->num_ranks();
  NcclOffer offer = make_offer(device, options);
  if (!arguments.ok()) offer.usable = std::move(arguments);
  if (offer.usable.ok()) offer.usable = prepare(state.get(), &offer);
  RESHARD_TRY(const std::vector<std::byte> id, agree(collective, offer, deadline));

  std::unique_ptr<NcclComm> made(new NcclComm(state));
  Status connected;
  if (state->is_given()) {
    state->life = State::Life::kAlive;
  } else {
    connected = connect(state, id, deadline, collective);
  }
  // Whoever fails last has waited until the deadline, and then given his communicator up.
  RESHARD_TRY(vote(collective, connected, later(deadline.timeout_us(), 2 * kGiveUpUs)));
  return made;
}

const NcclLibrary& NcclComm::library() const {
  return *state_->library;
}
bool NcclComm::is_capturable() const {
  return state_->options.is_capturable;
}
bool NcclComm::is_given() const {
  return state_->is_given();
}
bool NcclComm::is_given_up() const {
  return state_->life != State::Life::kAlive;
}

std::int64_t NcclComm::max_group_operations() const {
  const std::int32_t version = state_->library->version();
  return nccl_max_group_operations(version, effective_max_ctas(version, state_->options));
}

Status NcclComm::exchange(std::span<const NcclOperation> operations, const Stream& stream, const Deadline& deadline) {
  RESHARD_TRY(state_->failure);
  if (operations.empty()) return {};
  const std::int64_t most = max_group_operations();
  if (most != 0 && static_cast<std::int64_t>(operations.size()) > most) {
    return {RESHARD_ERR_INTERNAL,
            fmt::format("a group of {} operations, and {} takes {}", operations.size(), state_->library->text(), most)};
  }
  return state_->fail(exchange_group(*state_, operations, stream, deadline));
}

Status NcclComm::poll() {
  RESHARD_TRY(state_->failure);
  ncclResult_t code = ncclSuccess;
  const NcclFunctions& nccl = state_->nccl();
  RESHARD_TRY(state_->check("ncclCommGetAsyncError", nccl.ncclCommGetAsyncError(state_->comm, &code)));
  return state_->fail(state_->check("the NCCL communicator", code));
}

Status NcclComm::give_up(const Deadline& deadline) {
  return end_work(state_, deadline);
}

}  // namespace reshard
