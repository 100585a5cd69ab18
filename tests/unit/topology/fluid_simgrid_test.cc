// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
// The same flows in SimGrid, whose max-min solver shares nothing with ours. Its engine is one per process and its
// platform is fixed before it runs: all cases stand side by side in it, on hosts and links of their own, and one actor
// runs them one after the other.
#include <gtest/gtest.h>
#include <simgrid/s4u.hpp>

#include <algorithm>
#include <random>
#include <string>

#include "src/base/at.h"
#include "topology/fluid.h"

namespace reshard {
namespace {

namespace s4u = simgrid::s4u;

constexpr std::int32_t kNumCases = 40;
constexpr std::int64_t kMegabyte = 1'000'000;

struct Pair {
  std::int32_t src = 0;
  std::int32_t dst = 0;
};

/// Hosts under leaves: out and in of every host, then up and down of every leaf.
struct Fabric {
  std::int32_t num_hosts = 0;
  std::int32_t hosts_per_leaf = 1;
  FluidTraffic traffic;
  std::vector<Pair> pairs;               // per flow
  std::vector<std::int64_t> latency_ns;  // per resource

  std::int32_t leaf(std::int32_t host) const { return host / hosts_per_leaf; }
  std::int32_t num_leaves() const { return leaf(num_hosts - 1) + 1; }
  std::vector<std::int32_t> route(Pair pair) const {
    if (leaf(pair.src) == leaf(pair.dst)) return {pair.src, num_hosts + pair.dst};
    const std::int32_t up = 2 * num_hosts + leaf(pair.src);
    const std::int32_t down = 2 * num_hosts + num_leaves() + leaf(pair.dst);
    return {pair.src, up, down, num_hosts + pair.dst};
  }
};

/// Without latency all flows are equal. With it SimGrid's model shares in inverse proportion to latency, as TCP does,
/// which tries our weights.
Fabric any_fabric(std::uint64_t seed, bool has_latency) {
  std::mt19937_64 random(seed);
  const auto draw = [&](std::int64_t low, std::int64_t high) {
    return std::uniform_int_distribution<std::int64_t>(low, high)(random);
  };
  Fabric out;
  out.num_hosts = static_cast<std::int32_t>(draw(2, 16));
  out.hosts_per_leaf = static_cast<std::int32_t>(draw(1, 5));
  for (std::int32_t r = 0; r < 2 * (out.num_hosts + out.num_leaves()); ++r) {
    out.traffic.bytes_per_s.push_back(draw(100, 1'000) * kMegabyte);
    out.latency_ns.push_back(has_latency ? draw(10'000, 2'000'000) : 0);
  }
  const std::int64_t num_flows = draw(1, 80);
  for (std::int64_t i = 0; i < num_flows; ++i) {
    const Pair pair{static_cast<std::int32_t>(draw(0, out.num_hosts - 1)),
                    static_cast<std::int32_t>(draw(0, out.num_hosts - 1))};
    if (pair.src == pair.dst) continue;
    FluidFlow flow{draw(1, 2'000) * kMegabyte, 1, 0};
    std::vector<FluidUse> uses;
    for (const std::int32_t resource : out.route(pair)) {
      flow.latency_ns += at(out.latency_ns, resource);
      uses.push_back({resource, 1});
    }
    if (has_latency) flow.weight = 1e9 / static_cast<double>(flow.latency_ns);
    out.traffic.add(flow, uses);
    out.pairs.push_back(pair);
  }
  return out;
}

std::vector<s4u::Host*> build(const Fabric& fabric, const std::string& name, s4u::NetZone* zone) {
  std::vector<s4u::Link*> links;
  for (std::size_t r = 0; r < fabric.latency_ns.size(); ++r) {
    s4u::Link* link =
        zone->create_link(name + "-" + std::to_string(r), static_cast<double>(fabric.traffic.bytes_per_s[r]));
    links.push_back(link->set_latency(static_cast<double>(fabric.latency_ns[r]) * 1e-9)->seal());
  }
  std::vector<s4u::Host*> hosts;
  for (std::int32_t h = 0; h < fabric.num_hosts; ++h) {
    hosts.push_back(zone->create_host(name + "-host-" + std::to_string(h), 1e9)->seal());
  }
  for (std::int32_t src = 0; src < fabric.num_hosts; ++src) {
    for (std::int32_t dst = 0; dst < fabric.num_hosts; ++dst) {
      if (src == dst) continue;
      std::vector<s4u::LinkInRoute> route;
      for (const std::int32_t r : fabric.route({src, dst})) route.emplace_back(at(links, r));
      zone->add_route(at(hosts, src)->get_netpoint(), at(hosts, dst)->get_netpoint(), nullptr, nullptr, route, false);
    }
  }
  return hosts;
}

/// From within an actor: all flows at once; when each has finished, from now.
std::vector<double> run(const Fabric& fabric, const std::vector<s4u::Host*>& hosts) {
  const double begin_s = s4u::Engine::get_clock();
  std::vector<s4u::CommPtr> comms;
  for (std::size_t i = 0; i < fabric.pairs.size(); ++i) {
    comms.push_back(s4u::Comm::sendto_async(at(hosts, fabric.pairs[i].src), at(hosts, fabric.pairs[i].dst),
                                            static_cast<std::uint64_t>(fabric.traffic.flows[i].bytes)));
  }
  std::vector<double> finish_s;
  for (const s4u::CommPtr& comm : comms) {
    comm->wait();
    finish_s.push_back(comm->get_finish_time() - begin_s);
  }
  return finish_s;
}

void configure() {
  // No correction factors, no window of TCP, no traffic of acknowledgements: only latency, capacity and sharing.
  for (const char* setting :
       {"network/model:CM02", "network/crosstraffic:0", "network/TCP-gamma:0", "network/latency-factor:1",
        "network/bandwidth-factor:1", "network/weight-S:0", "contexts/factory:thread"}) {
    s4u::Engine::set_config(setting);
  }
}

TEST(FluidSimgridTest, EveryFlowFinishesWhenSimGridSaysSo) {
  std::string program = "fluid_simgrid_test";
  std::string quiet = "--log=root.threshold:warning";
  char* arguments[] = {program.data(), quiet.data(), nullptr};
  int num_arguments = 2;
  s4u::Engine engine(&num_arguments, arguments);
  configure();
  s4u::NetZone* zone = s4u::create_full_zone("all");
  std::vector<Fabric> fabrics;
  std::vector<std::vector<s4u::Host*>> hosts;
  for (std::int32_t i = 0; i < kNumCases; ++i) {
    fabrics.push_back(any_fabric(static_cast<std::uint64_t>(i) + 1, i % 2 == 1));
    hosts.push_back(build(fabrics.back(), "case-" + std::to_string(i), zone));
  }
  zone->seal();
  std::vector<std::vector<double>> expected(fabrics.size());
  s4u::Actor::create("all", hosts[0][0], [&] {
    for (std::size_t i = 0; i < fabrics.size(); ++i) expected[i] = run(fabrics[i], hosts[i]);
  });
  engine.run();
  for (std::size_t i = 0; i < fabrics.size(); ++i) {
    SCOPED_TRACE("case " + std::to_string(i));
    FluidOptions options;
    options.batch = 0;
    const auto result = simulate(fabrics[i].traffic, options);
    ASSERT_TRUE(result.ok());
    ASSERT_EQ(result->finish_s.size(), expected[i].size());
    double makespan_s = 0;
    for (std::size_t f = 0; f < expected[i].size(); ++f) {
      EXPECT_NEAR(result->finish_s[f], expected[i][f], 0.01 * expected[i][f]) << "flow " << f;
      makespan_s = std::max(makespan_s, expected[i][f]);
    }
    EXPECT_NEAR(result->makespan_s, makespan_s, 0.01 * makespan_s);
  }
}

}  // namespace
}  // namespace reshard
