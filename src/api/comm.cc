// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Comms: the ways in which ranks find each other all end in connect(), but for ranks that are threads of one process,
// which need no transport outside it. A build without UCX has the same functions; those that need it say so.
#include <fmt/format.h>

#include <cstring>
#include <mutex>

#include "src/api/config.h"
#include "src/api/error.h"
#include "src/api/handles.h"
#include "src/transport/bootstrap.h"
#include "src/transport/local.h"
#include "src/transport/memory_left.h"
#if RESHARD_HAVE_UCX
#include "src/transport/ucx.h"
#endif

using namespace reshard;  // NOLINT(google-build-using-namespace): this file is the boundary
using reshard::api::check_not_null;
using reshard::api::check_struct;
using reshard::api::check_timeout;
using reshard::api::guard;
using reshard::api::kDefaultTimeoutUs;

namespace {

/// The options' timeout is of the creation, and of what is done later without one of its own.
Result<std::int64_t> timeout_of(const reshard_comm_options_t* options) {
  if (options == nullptr) return kDefaultTimeoutUs;
  RESHARD_TRY(check_struct(options, "reshard_comm_options_t"));
  RESHARD_TRY(check_timeout(options->timeout_us));
  return options->timeout_us;
}

Notice notice_of(const reshard_comm_options_t* options) {
  if (options == nullptr || options->notice == nullptr) return {};
  return [notice = options->notice, user = options->user](const std::string& text) { notice(text.c_str(), user); };
}

/// Connects over UCX the ranks that `make_bootstrap(&deadline, notice)` brings together. One deadline holds for all of
/// it: what the rendezvous has used up is missing when the transports exchange their addresses. It is handed over to be
/// begun anew after a wait that is the caller's.
template <typename MakeBootstrap>
Status connect([[maybe_unused]] const MakeBootstrap& make_bootstrap, const reshard_comm_options_t* options,
               reshard_comm_t* comm) {
  RESHARD_TRY(check_not_null(comm, "comm"));
  RESHARD_TRY(const std::int64_t timeout_us, timeout_of(options));
#if RESHARD_HAVE_UCX
  Deadline deadline(timeout_us);
  RESHARD_TRY(std::unique_ptr<Bootstrap> bootstrap, make_bootstrap(&deadline, notice_of(options)));
  auto made = std::make_unique<reshard_comm>();
  const char* net_devices = options == nullptr ? nullptr : options->net_devices;
  RESHARD_TRY(made->transport,
              create_ucx_transport(std::move(bootstrap), net_devices == nullptr ? "" : net_devices, deadline));
  made->timeout_us = timeout_us;
  *comm = made.release();
  return {};
#else
  static_cast<void>(timeout_us);
  return {RESHARD_ERR_NOT_SUPPORTED, "this build has no UCX; only reshard_comm_create_local connects ranks"};
#endif
}

}  // namespace

extern "C" {

void reshard_comm_options_init_sized(reshard_comm_options_t* options, size_t struct_size) {
  reshard_comm_options_t defaults{};
  defaults.timeout_us = kDefaultTimeoutUs;
  reshard::api::init_struct(options, struct_size, defaults);
}

reshard_status_t reshard_unique_id_create(const char* address, reshard_unique_id_t* id) {
  return guard([&]() -> Status {
    RESHARD_TRY(check_not_null(id, "id"));
    RESHARD_TRY(*id, create_unique_id(address));
    return {};
  });
}

reshard_status_t reshard_unique_id_destroy(const reshard_unique_id_t* id) {
  return guard([&]() -> Status {
    RESHARD_TRY(check_not_null(id, "id"));
    return destroy_unique_id(*id);
  });
}

reshard_status_t reshard_comm_create_from_id(const reshard_unique_id_t* id, int32_t rank, int32_t num_ranks,
                                             const reshard_comm_options_t* options, reshard_comm_t* comm) {
  if (comm != nullptr) *comm = nullptr;
  return guard([&]() -> Status {
    RESHARD_TRY(check_not_null(id, "id"));
    return connect([&](const Deadline* deadline,
                       const Notice& notice) { return create_tcp_bootstrap(*id, rank, num_ranks, *deadline, notice); },
                   options, comm);
  });
}

reshard_status_t reshard_comm_create_from_callback(reshard_allgather_fn allgather, void* user, int32_t rank,
                                                   int32_t num_ranks, const reshard_comm_options_t* options,
                                                   reshard_comm_t* comm) {
  if (comm != nullptr) *comm = nullptr;
  return guard([&]() -> Status {
    if (allgather == nullptr) return invalid_argument("allgather is NULL");
    return connect(
        [&](Deadline* deadline, const Notice& notice) {
          return create_callback_bootstrap(allgather, user, rank, num_ranks, deadline, notice);
        },
        options, comm);
  });
}

/// Hands the transport the means to read variables, as only this room reads any.
reshard_status_t reshard_comm_create_from_environment(const reshard_comm_options_t* options, reshard_comm_t* comm) {
  if (comm != nullptr) *comm = nullptr;
  return guard([&]() -> Status {
    return connect(
        [](const Deadline* deadline, const Notice& notice) -> Result<std::unique_ptr<Bootstrap>> {
          RESHARD_TRY(const Launch launch,
                      launch_from_environment({reshard::api::read_environment, reshard::api::parent_process()}));
          return create_launch_bootstrap(launch, *deadline, notice);
        },
        options, comm);
  });
}

reshard_status_t reshard_comm_create_local(int32_t num_ranks, const reshard_comm_options_t* options,
                                           reshard_comm_t* comms) {
  return guard([&]() -> Status {
    RESHARD_TRY(check_not_null(comms, "comms"));
    RESHARD_TRY(const std::int64_t timeout_us, timeout_of(options));
    if (num_ranks < 1) return invalid_argument(fmt::format("num_ranks is {}; give 1 or more", num_ranks));
    RESHARD_TRY(auto transports, create_local_transports(num_ranks));
    std::vector<std::unique_ptr<reshard_comm>> made;
    for (auto& transport : transports) {
      made.push_back(std::make_unique<reshard_comm>());
      made.back()->transport = std::move(transport);
      made.back()->timeout_us = timeout_us;
    }
    // Handed out when all are made: an error before this leaves the caller's array as it was.
    for (std::size_t r = 0; r < made.size(); ++r) comms[r] = made[r].release();
    return {};
  });
}

void reshard_comm_destroy(reshard_comm_t comm) {
  delete comm;
}

reshard_status_t reshard_comm_rank(reshard_comm_t comm, int32_t* rank) {
  return guard([&]() -> Status {
    RESHARD_TRY(check_not_null(comm, "comm"));
    RESHARD_TRY(check_not_null(rank, "rank"));
    *rank = comm->transport->rank();
    return {};
  });
}

reshard_status_t reshard_comm_size(reshard_comm_t comm, int32_t* num_ranks) {
  return guard([&]() -> Status {
    RESHARD_TRY(check_not_null(comm, "comm"));
    RESHARD_TRY(check_not_null(num_ranks, "num_ranks"));
    *num_ranks = comm->transport->num_ranks();
    return {};
  });
}

reshard_status_t reshard_comm_allgather(reshard_comm_t comm, const void* in, void* out, size_t size_bytes,
                                        int64_t timeout_us) {
  return guard([&]() -> Status {
    RESHARD_TRY(check_not_null(comm, "comm"));
    if (size_bytes > 0) {
      RESHARD_TRY(check_not_null(in, "in"));
      RESHARD_TRY(check_not_null(out, "out"));
    }
    RESHARD_TRY(check_timeout(timeout_us));
    // A size that no memory can have takes part with nothing, so that every rank fails.
    const auto num_ranks = static_cast<std::size_t>(comm->transport->num_ranks());
    const bool is_possible = size_bytes <= memory_left() / num_ranks;
    const auto* first = static_cast<const std::byte*>(in);
    const std::vector<std::byte> mine(first, first + (is_possible ? size_bytes : 0));
    const std::lock_guard turn(comm->transport->turn());
    RESHARD_TRY(const auto all, comm->transport->allgather(mine, Deadline(timeout_us)));
    for (const auto& blob : all) {
      if (blob.size() == size_bytes) continue;
      return invalid_argument(
          fmt::format("a rank gave {} bytes to the all-gather and this one {}", blob.size(), size_bytes));
    }
    auto* next = static_cast<std::byte*>(out);
    for (const auto& blob : all) next = std::copy(blob.begin(), blob.end(), next);
    return {};
  });
}

}  // extern "C"
