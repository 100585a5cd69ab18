// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// A build without CUDA or without NCCL's header: nothing can be loaded, so there is no communicator either.
#include "src/transport/nccl/agreement.h"

namespace reshard {

struct NcclFunctions {};

Result<std::shared_ptr<const NcclLibrary>> NcclLibrary::load(const std::string&) {
  return Status(
      RESHARD_ERR_NOT_SUPPORTED,
      "this build of reshard has no NCCL: it was configured without CUDA, or without nccl.h of 2.28 or newer");
}
NcclLibrary::NcclLibrary() = default;
NcclLibrary::~NcclLibrary() = default;
bool NcclLibrary::has_revoke() const {
  return false;
}
Status NcclLibrary::check_is_the_loaded_one() const {
  return {};
}

struct NcclComm::State {
  std::shared_ptr<const NcclLibrary> library;
};

Result<std::unique_ptr<NcclComm>> NcclComm::create(Collective* collective, std::int32_t, const NcclOptions& options,
                                                   const Deadline& deadline, Status arguments) {
  NcclOffer offer;
  offer.usable = arguments.ok() ? NcclLibrary::load(options.library).take_status() : std::move(arguments);
  return agree(collective, offer, deadline).take_status();  // an error on every rank, since this one has one
}

// None of these is reached, as there is no object.
NcclComm::NcclComm(std::shared_ptr<State> state) : state_(std::move(state)) {}
NcclComm::~NcclComm() = default;
const NcclLibrary& NcclComm::library() const {
  return *state_->library;
}
bool NcclComm::is_capturable() const {
  return false;
}
bool NcclComm::is_given() const {
  return false;
}
bool NcclComm::is_given_up() const {
  return true;
}
std::int64_t NcclComm::max_group_operations() const {
  return 0;
}
Status NcclComm::warm_up(std::span<const std::int32_t>, std::span<const std::int32_t>, Collective*, const Deadline&) {
  return NcclLibrary::load({}).status();
}
Status NcclComm::exchange(std::span<const NcclOperation>, const Stream&, const Deadline&) {
  return NcclLibrary::load({}).status();
}
Status NcclComm::poll() {
  return NcclLibrary::load({}).status();
}
Status NcclComm::give_up(const Deadline&) {
  return NcclLibrary::load({}).status();
}

}  // namespace reshard
