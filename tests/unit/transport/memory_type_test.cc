// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// What UCX is told of where messages lie. There is no device here: functions of this program stand before UCX's own,
// say that it moves memory of devices, look at what comes, and hand it on as memory of the host.
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <ucp/api/ucp.h>

#include <functional>
#include <vector>

#include "src/transport/ucx.h"
#include "tests/unit/transport/ranks.h"

namespace {

// Of one process. Those of a test are forked, and set them for themselves.
bool plays_device = false;
std::vector<int> told_types;  // of each post; -1: nothing was told

template <typename Function>
Function* original(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

ucp_request_param_t as_host(const ucp_request_param_t* params) {
  const bool is_told = (params->op_attr_mask & UCP_OP_ATTR_FIELD_MEMORY_TYPE) != 0;
  told_types.push_back(is_told ? static_cast<int>(params->memory_type) : -1);
  ucp_request_param_t changed = *params;
  changed.memory_type = UCS_MEMORY_TYPE_HOST;
  return changed;
}

}  // namespace

extern "C" {

ucs_status_t ucp_context_query(ucp_context_h context, ucp_context_attr_t* attributes) {
  const ucs_status_t status = original<decltype(ucp_context_query)>("ucp_context_query")(context, attributes);
  if (plays_device) attributes->memory_types |= UCS_BIT(UCS_MEMORY_TYPE_CUDA);
  return status;
}

ucs_status_ptr_t ucp_tag_send_nbx(ucp_ep_h endpoint, const void* data, size_t size_bytes, ucp_tag_t tag,
                                  const ucp_request_param_t* params) {
  const ucp_request_param_t changed = as_host(params);
  return original<decltype(ucp_tag_send_nbx)>("ucp_tag_send_nbx")(endpoint, data, size_bytes, tag, &changed);
}

ucs_status_ptr_t ucp_tag_recv_nbx(ucp_worker_h worker, void* data, size_t size_bytes, ucp_tag_t tag, ucp_tag_t mask,
                                  const ucp_request_param_t* params) {
  const ucp_request_param_t changed = as_host(params);
  return original<decltype(ucp_tag_recv_nbx)>("ucp_tag_recv_nbx")(worker, data, size_bytes, tag, mask, &changed);
}

}  // extern "C"

namespace reshard::test {
namespace {

/// Two ranks, of which the first `num_with_device` have a device; each sends to the other.
Verdict exchange(int num_with_device, const std::function<Verdict(Transport&)>& scenario) {
  const reshard_unique_id_t id = new_id();
  return run_processes(2, [&](std::int32_t rank) -> Verdict {
    plays_device = rank < num_with_device;
    const Deadline deadline(kPatienceUs);
    auto bootstrap = create_tcp_bootstrap(id, rank, 2, deadline);
    RESHARD_REQUIRE_OK(bootstrap);
    const auto transport = create_ucx_transport(bootstrap.take(), "", deadline);
    RESHARD_REQUIRE_OK(transport);
    RESHARD_REQUIRE_HOLDS(scenario(**transport));
    return barrier(**transport);
  });
}

Verdict send_each_other(Transport& transport, MemorySpace space) {
  const std::int32_t peer = 1 - transport.rank();
  const std::vector<std::byte> mine = pattern(100, transport.rank(), peer);
  std::vector<std::byte> theirs(100);
  std::vector<Request> requests(2);
  RESHARD_REQUIRE_OK(transport.recv(peer, 7, theirs.data(), 100, space, &requests[0]));
  RESHARD_REQUIRE_OK(transport.send(peer, 7, mine.data(), 100, space, &requests[1]));
  RESHARD_REQUIRE_HOLDS(await(transport, requests));
  RESHARD_REQUIRE(theirs == pattern(100, peer, transport.rank()));
  return {};
}

TEST(MemoryTypeTest, UcxWithDevicesIsToldWhereEachMessageLies) {
  EXPECT_EQ(
      exchange(2,
               [](Transport& transport) -> Verdict {
                 RESHARD_REQUIRE(transport.moves(MemorySpace::kDevice));
                 RESHARD_REQUIRE(transport.moves(MemorySpace::kHost) && transport.moves(MemorySpace::kPinned));
                 told_types.clear();
                 for (const MemorySpace space : {MemorySpace::kHost, MemorySpace::kPinned, MemorySpace::kDevice}) {
                   RESHARD_REQUIRE_HOLDS(send_each_other(transport, space));
                 }
                 const std::vector<int> expected{UCS_MEMORY_TYPE_HOST, UCS_MEMORY_TYPE_HOST, UCS_MEMORY_TYPE_HOST,
                                                 UCS_MEMORY_TYPE_HOST, UCS_MEMORY_TYPE_CUDA, UCS_MEMORY_TYPE_CUDA};
                 RESHARD_REQUIRE(told_types == expected);
                 return {};
               }),
      "");
}

TEST(MemoryTypeTest, SendOfDeviceMemoryIsNotTakenBackWhileUcxMayReadIt) {
  EXPECT_EQ(
      exchange(
          2,
          [](Transport& transport) -> Verdict {
            constexpr std::size_t kBytes = 1 << 20;  // it waits for its receive
            const std::int32_t peer = 1 - transport.rank();
            std::vector<std::byte> bytes = pattern(kBytes, 0, 1);
            std::vector<Request> requests(1);
            RESHARD_REQUIRE(!transport.takes_back_sends(peer, MemorySpace::kDevice));
            if (transport.rank() == 0) {
              RESHARD_REQUIRE_OK(transport.send(peer, 7, bytes.data(), kBytes, MemorySpace::kDevice, &requests[0]));
              RESHARD_REQUIRE(!transport.cancel(&requests[0]));
              RESHARD_REQUIRE(requests[0].pending());
            }
            RESHARD_REQUIRE_HOLDS(barrier(transport));
            if (transport.rank() == 1) {
              RESHARD_REQUIRE_OK(transport.recv(peer, 7, bytes.data(), kBytes, MemorySpace::kDevice, &requests[0]));
            }
            RESHARD_REQUIRE_HOLDS(await(transport, requests));
            return {};
          }),
      "");
}

TEST(MemoryTypeTest, OneRankWithoutDevicesIsEnoughForNoneToSendTheirMemory) {
  EXPECT_EQ(exchange(1,
                     [](Transport& transport) -> Verdict {
                       RESHARD_REQUIRE(!transport.moves(MemorySpace::kDevice));
                       std::byte data{};
                       Request request;
                       const Status refused = transport.send(0, 7, &data, 1, MemorySpace::kDevice, &request);
                       RESHARD_REQUIRE(refused.code() == RESHARD_ERR_NOT_SUPPORTED);
                       RESHARD_REQUIRE(refused.message().find("device memory on every rank") != std::string::npos);
                       RESHARD_REQUIRE(!request.pending());
                       return send_each_other(transport, MemorySpace::kPinned);
                     }),
            "");
}

TEST(MemoryTypeTest, UcxWithoutDevicesIsToldNothing) {
  EXPECT_EQ(exchange(0,
                     [](Transport& transport) -> Verdict {
                       RESHARD_REQUIRE(!transport.moves(MemorySpace::kDevice));
                       RESHARD_REQUIRE(!transport.moves(MemorySpace::kManaged));
                       told_types.clear();
                       RESHARD_REQUIRE_HOLDS(send_each_other(transport, MemorySpace::kHost));
                       RESHARD_REQUIRE(told_types == std::vector<int>(2, -1));
                       return {};
                     }),
            "");
}

}  // namespace
}  // namespace reshard::test
