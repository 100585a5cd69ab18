// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/api/node_exchange.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <thread>

#include "src/base/bytes.h"
#include "src/transport/local.h"
#include "topology/presets.h"

namespace reshard::api {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Outcome = Result<GatheredMachine>;

constexpr std::int64_t kTimeoutUs = 20'000'000;

/// Runs body(transport) for each rank of a local world on a thread of its own.
void run(std::int32_t num_ranks, const std::function<void(Transport*)>& body) {
  auto transports = create_local_transports(num_ranks);
  ASSERT_TRUE(transports.ok());
  std::vector<std::thread> threads;
  for (auto& transport : *transports) threads.emplace_back([&] { body(transport.get()); });
  for (std::thread& thread : threads) thread.join();
}

/// What each rank gets when rank r says answers[r].
std::vector<Outcome> exchange(const std::vector<Result<OwnNode>>& answers) {
  std::vector<Outcome> outcomes(answers.size(), Status(RESHARD_ERR_INTERNAL, "not run"));
  run(static_cast<std::int32_t>(answers.size()), [&](Transport* transport) {
    const auto rank = static_cast<std::size_t>(transport->rank());
    outcomes[rank] = exchange_nodes(answers[rank], transport, Deadline(kTimeoutUs));
  });
  return outcomes;
}

OwnNode node_of(const std::string& hostname, const char* preset) {
  return {hostname, to_text(find_preset(preset)->node), "", -1, {hostname + " is doubtful"}};
}

TEST(NodeExchangeTest, RanksCountUpOnTheirHosts) {
  const OwnNode a = node_of("a", "hgx-h100");
  const OwnNode b = node_of("b", "dgx-a100");
  for (const Outcome& outcome : exchange({a, b, a, b, a})) {
    ASSERT_TRUE(outcome.ok()) << outcome.status().message();
    const Machine& machine = outcome->machine;
    EXPECT_EQ(machine.num_ranks(), 5);
    ASSERT_EQ(machine.nodes.size(), 2U);
    EXPECT_EQ(machine.nodes[NodeId(1)].name, "b");
    ASSERT_EQ(machine.domains.size(), 2U);
    EXPECT_THAT(machine.domains[DomainId(0)].ranks, ElementsAre(0, 2, 4));
    EXPECT_THAT(machine.domains[DomainId(1)].ranks, ElementsAre(1, 3));
    EXPECT_NE(machine.gpus[RankId(0)].port,
              machine.gpus[RankId(2)].port);  // each GPU has a NIC, so no two ranks have one GPU
    EXPECT_THAT(outcome->warnings, ElementsAre("a: a is doubtful", "b: b is doubtful"));
  }
}

TEST(NodeExchangeTest, HostsOfOneNameAreToldApartByTheirKernels) {
  OwnNode a = node_of("node", "hgx-h100");
  OwnNode b = node_of("node", "dgx-a100");
  a.boot_id = "6f3c";
  b.boot_id = "91d0";
  for (const Outcome& outcome : exchange({a, b, a, b})) {
    ASSERT_TRUE(outcome.ok()) << outcome.status().message();
    const Machine& machine = outcome->machine;
    ASSERT_EQ(machine.nodes.size(), 2U);
    EXPECT_EQ(machine.nodes[NodeId(0)].name, "node");
    EXPECT_EQ(machine.nodes[NodeId(1)].name, "node#2");
    EXPECT_FALSE(machine.same_domain(RankId(0), RankId(1)));
    EXPECT_TRUE(machine.same_domain(RankId(0), RankId(2)));
  }
  // Containers share a kernel, and simulated hosts do: of two names they are two.
  b = a;
  b.hostname = "other";
  for (const Outcome& outcome : exchange({a, b})) {
    ASSERT_TRUE(outcome.ok()) << outcome.status().message();
    EXPECT_FALSE(outcome->machine.same_domain(RankId(0), RankId(1)));
  }
}

TEST(NodeExchangeTest, AnNvlinkDomainJoinsHosts) {
  OwnNode a = node_of("a", "gb200-nvl72");
  OwnNode b = node_of("b", "gb200-nvl72");
  a.domain_id = b.domain_id = "cluster 7, clique 1";
  for (const Outcome& outcome : exchange({a, b})) {
    ASSERT_TRUE(outcome.ok()) << outcome.status().message();
    EXPECT_TRUE(outcome->machine.same_domain(RankId(0), RankId(1)));
  }
}

TEST(NodeExchangeTest, RanksMaySayTheirGpu) {
  OwnNode third = node_of("a", "hgx-h100");
  OwnNode last = third;
  third.gpu = 3;
  last.gpu = 7;
  const std::vector<Outcome> outcomes = exchange({third, last});
  ASSERT_TRUE(outcomes[0].ok()) << outcomes[0].status().message();
  const Machine& machine = outcomes[0]->machine;
  EXPECT_EQ(machine.ports[PortId(machine.gpus[RankId(0)].port)].rail, 3);
  EXPECT_EQ(machine.ports[PortId(machine.gpus[RankId(1)].port)].rail, 7);
  last.gpu = 8;
  for (const Outcome& outcome : exchange({third, last})) {
    EXPECT_EQ(outcome.status().code(), RESHARD_ERR_INVALID_ARGUMENT);
    EXPECT_THAT(outcome.status().message(), HasSubstr("host a has 8 GPUs, and a rank on GPU 8"));
  }
}

TEST(NodeExchangeTest, OneRanksFailureIsEveryRanksUnderItsName) {
  const OwnNode fine = node_of("a", "hgx-h100");
  const Status failure(RESHARD_ERR_NOT_SUPPORTED, "no such thing here");
  const std::vector<Outcome> outcomes = exchange({fine, fine, failure, fine});
  for (std::size_t rank = 0; rank < outcomes.size(); ++rank) {
    EXPECT_EQ(outcomes[rank].status().code(), RESHARD_ERR_NOT_SUPPORTED);
    EXPECT_EQ(outcomes[rank].status().message(), (rank == 2 ? "" : "on rank 2: ") + failure.message());
  }
}

TEST(NodeExchangeTest, HostsThatAreSeenDifferentlyAreRefused) {
  for (const Outcome& outcome : exchange({node_of("a", "hgx-h100"), node_of("a", "hgx-h200")})) {
    EXPECT_EQ(outcome.status().code(), RESHARD_ERR_INVALID_ARGUMENT);
    EXPECT_THAT(outcome.status().message(), HasSubstr("rank 1 describes host a otherwise"));
  }
}

TEST(NodeExchangeTest, OtherMachinesOfTheSameAnswersAreRefused) {
  const OwnNode fine = node_of("a", "hgx-h100");
  run(2, [&](Transport* transport) {
    if (transport->rank() == 0) {
      const Outcome outcome = exchange_nodes(fine, transport, Deadline(kTimeoutUs));
      EXPECT_EQ(outcome.status().code(), RESHARD_ERR_PLAN_MISMATCH);
      EXPECT_THAT(outcome.status().message(), HasSubstr("rank 1 made the machine 0000000000000001"));
      return;
    }
    ByteWriter answer;  // as a rank of another version might
    answer.add(RESHARD_OK);
    answer.add(std::string());
    for (const std::string& text : {fine.hostname, fine.text, fine.domain_id, fine.boot_id}) answer.add(text);
    answer.add(-1);
    answer.add(0);
    EXPECT_TRUE(transport->allgather(answer.take(), Deadline(kTimeoutUs)).ok());
    ByteWriter digest;
    digest.add(1);
    EXPECT_TRUE(transport->allgather(digest.take(), Deadline(kTimeoutUs)).ok());
  });
}

TEST(NodeExchangeTest, GarbageIsRefusedUnderTheNameOfItsRank) {
  const OwnNode fine = node_of("a", "hgx-h100");
  run(3, [&](Transport* transport) {
    if (transport->rank() == 2) {
      const std::vector<std::byte> garbage(9, std::byte{0xff});
      EXPECT_TRUE(transport->allgather(garbage, Deadline(kTimeoutUs)).ok());
      EXPECT_TRUE(transport->allgather(garbage, Deadline(kTimeoutUs)).ok());
      return;
    }
    const Outcome outcome = exchange_nodes(fine, transport, Deadline(kTimeoutUs));
    EXPECT_EQ(outcome.status().code(), RESHARD_ERR_TRANSPORT);
    EXPECT_THAT(outcome.status().message(), HasSubstr("rank 2 sent a malformed"));
  });
}

TEST(NodeExchangeTest, AMissingRankIsATimeout) {
  const OwnNode fine = node_of("a", "hgx-h100");
  run(2, [&](Transport* transport) {
    if (transport->rank() == 1) return;
    EXPECT_EQ(exchange_nodes(fine, transport, Deadline(100'000)).status().code(), RESHARD_ERR_TIMEOUT);
  });
}

}  // namespace
}  // namespace reshard::api
