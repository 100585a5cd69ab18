// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Which driver runs a binding, between the public description and BindOptions.
#include "src/api/binding_driver.h"

#include <fmt/format.h>

#include <cstring>
#include <mutex>

#include "src/api/config.h"
#include "src/api/error.h"
#include "src/exec/driver_choice.h"

namespace reshard::api {
namespace {

Result<DriverWish> wish_of(const reshard_binding_desc_t& desc) {
  const bool needs_nccl = desc.nccl_comm != nullptr || desc.capturable != 0;
  switch (desc.driver) {
    case RESHARD_DRIVER_AUTO:
      return needs_nccl ? DriverWish::kNccl : DriverWish::kAuto;
    case RESHARD_DRIVER_POLL:
      if (!needs_nccl) return DriverWish::kPoll;
      return invalid_argument(fmt::format("driver is RESHARD_DRIVER_POLL, which has no use for {}",
                                          desc.nccl_comm != nullptr ? "nccl_comm" : "capturable"));
    case RESHARD_DRIVER_NCCL:
      return DriverWish::kNccl;
  }
  return invalid_argument(fmt::format("driver is {}, which there is not", static_cast<int>(desc.driver)));
}

NcclOptions nccl_options(const reshard_binding_desc_t& desc) {
  const char* library = read_environment("RESHARD_NCCL_LIBRARY");
  return {.library = library == nullptr ? "" : library,
          .given = desc.nccl_comm,
          .may_revoke_given = desc.may_revoke_nccl_comm != 0,
          .is_capturable = desc.capturable != 0,
          .max_ctas = desc.max_ctas,
          .traffic_class = desc.traffic_class};
}

/// "NCCL 2.28.9 (/usr/lib/libnccl.so.2), at most 6 operations in a group"
std::string describe(const NcclOptions& options) {
  const auto library = NcclLibrary::load(options.library);
  if (!library.ok()) return library.status().message();
  const std::int32_t version = (*library)->version();
  const std::int64_t most = nccl_max_group_operations(version, effective_max_ctas(version, options));
  return (*library)->text() + (most == 0 ? "" : fmt::format(", at most {} operations in a group", most));
}

}  // namespace

Result<reshard_binding_desc_t> read_binding_desc(const reshard_binding_desc_t* given) {
  RESHARD_TRY(reshard_binding_desc_t desc, read_versioned(given, "reshard_binding_desc_t"));
  if (given->version == 1) desc.traffic_class = desc.device = -1;  // of all that is new, what is not 0
  return desc;
}

Status check_update(const reshard_binding_desc_t& desc, const reshard_binding& binding) {
  if (desc.comm != nullptr && desc.comm->transport != binding.transport) {
    return invalid_argument("the update is over another comm than the binding; give NULL, or bind anew");
  }
  const auto fixed = [](const char* field) {
    return invalid_argument(
        fmt::format("an update keeps what the binding was made with, and {} is set; leave it as the "
                    "init function has it, or bind anew",
                    field));
  };
  if (desc.driver != RESHARD_DRIVER_AUTO && desc.driver != binding.driver) return fixed("another driver");
  if (desc.nccl_comm != nullptr) return fixed("nccl_comm");
  if (desc.may_revoke_nccl_comm != 0) return fixed("may_revoke_nccl_comm");
  if (desc.capturable != 0) return fixed("capturable");
  if (desc.max_ctas != 0) return fixed("max_ctas");
  if (desc.traffic_class != -1) return fixed("traffic_class");
  if (desc.device != -1 && desc.device != binding.place.device) return fixed("another device");
  return {};
}

Status choose(const reshard_binding_desc_t& desc, const Result<std::int32_t>& device, reshard_binding* made,
              BindOptions* options) {
  const Result<DriverWish> wish = wish_of(desc);
  if (!wish.ok() && options->arguments.ok()) options->arguments = wish.status();
  const NcclOptions nccl = nccl_options(desc);
  if (options->arguments.ok()) options->arguments = check_nccl_options(nccl);
  DriverOffer offer;
  offer.call = options->call;
  offer.wish = wish.ok() ? *wish : DriverWish::kAuto;  // with a wrong one the binding fails anyhow
  offer.messages = messages_without_nccl(*options->transport);
  // A rank that polls does not look for a library.
  if (!device.ok()) offer.nccl.usable = device.status();
  if (device.ok() && offer.wish != DriverWish::kPoll) offer.nccl = make_offer(*device, nccl);
  DriverChoice choice;
  {
    const std::lock_guard turn(options->transport->turn());
    RESHARD_TRY(choice, choose_driver(options->transport, offer, Deadline(options->timeout_us)));
  }
  made->driver = choice.is_nccl ? RESHARD_DRIVER_NCCL : RESHARD_DRIVER_POLL;
  made->driver_reason = choice.is_nccl ? fmt::format("{}: {}", describe(nccl), choice.reason) : choice.reason;
  if (!choice.is_nccl) return {};
  if (options->arguments.ok()) options->arguments = offer.nccl.usable;
  if (device.ok()) options->nccl = NcclChoice{*device, nccl};
  return {};
}

}  // namespace reshard::api
