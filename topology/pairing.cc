// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Which NIC serves which GPU, from where they hang in the node. The rule is that of how such nodes are wired: a GPU and
// the NIC below the same PCIe switch belong together, and everything else is the exception. Closeness is the length of
// the common beginning of two paths; a longer one means a lower common bridge, so fewer shared links on the way.
#include "topology/pairing.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "src/base/at.h"

namespace reshard {
namespace {

using Indices = std::vector<std::int32_t>;

std::size_t closeness(const DevicePlace& a, const DevicePlace& b) {
  const auto ends = std::mismatch(a.path.begin(), a.path.end(), b.path.begin(), b.path.end());
  return static_cast<std::size_t>(ends.first - a.path.begin());
}

/// Whether `link` limits more than `other`.
bool is_slower(const Link& link, const Link& other) {
  return link.is_limited() && (!other.is_limited() || link.nominal_bytes_per_s < other.nominal_bytes_per_s);
}

/// The slowest link of a device on its way up to what it has in common with another: the PCI bridges between, or its
/// link to the CPU where nothing below the CPU is common.
Link slowest(const DevicePlace& place, std::size_t common) {
  if (common <= 1 && place.to_cpu.has_value()) return *place.to_cpu;
  Link slowest;
  for (std::size_t i = common; i < place.links.size(); ++i) {
    const Link& link = place.links[i];
    if (is_slower(link, slowest)) slowest = link;
  }
  return slowest;
}

/// Ports are made group by group: the NICs below one bridge, with the GPUs that have no NIC yet and for which that
/// bridge is the closest. Deep groups go first, so that a NIC beside the CPU serves only GPUs that nothing closer
/// serves.
class Pairing {
 public:
  Pairing(const std::vector<DevicePlace>& gpus, const std::vector<NicPlace>& nics)
      : gpus_(gpus), nics_(nics), port_of_gpu_(gpus.size(), -1) {}

  void pair() {
    // Groups of NICs below one ancestor, the deepest first.
    std::map<std::pair<std::size_t, std::vector<std::int32_t>>, Indices> groups;
    for (std::int32_t n = 0; n < static_cast<std::int32_t>(nics_.size()); ++n) {
      const DevicePlace& place = at(nics_, n).at;
      std::size_t best = 0;
      for (const DevicePlace& gpu : gpus_) best = std::max(best, closeness(gpu, place));
      const auto prefix = place.path.begin() + static_cast<std::ptrdiff_t>(best);
      groups[{best, std::vector<std::int32_t>(place.path.begin(), prefix)}].push_back(n);
    }
    // The key begins with the depth, so that the map's reverse order is the deepest first; within a depth the prefix
    // makes the order one of the paths, not of how the file lists devices.
    for (auto group = groups.rbegin(); group != groups.rend(); ++group) serve(group->first.first, group->second);
    for (std::int32_t g = 0; g < static_cast<std::int32_t>(gpus_.size()); ++g) {
      if (at(port_of_gpu_, g) < 0) at(port_of_gpu_, g) = closest_port(at(gpus_, g));
    }
  }

  /// Ports with GPUs, by their first GPU; renumbers port_of_gpu to them.
  std::vector<Indices> used_ports(Indices* port_of_gpu) const {
    std::vector<Indices> used;
    std::map<std::int32_t, std::int32_t> renumbered;
    *port_of_gpu = port_of_gpu_;
    for (std::int32_t& port : *port_of_gpu) {
      if (port < 0) continue;
      const auto [it, is_new] = renumbered.try_emplace(port, static_cast<std::int32_t>(used.size()));
      if (is_new) used.push_back(at(ports_, port));
      port = it->second;
    }
    return used;
  }

 private:
  /// NICs of the same closest GPUs are shared out among those that nothing closer serves.
  void serve(std::size_t closest, const Indices& nics) {
    const DevicePlace& place = at(nics_, nics.front()).at;
    Indices gpus;
    for (std::int32_t g = 0; g < static_cast<std::int32_t>(gpus_.size()); ++g) {
      if (at(port_of_gpu_, g) < 0 && closeness(at(gpus_, g), place) == closest) gpus.push_back(g);
    }
    // As many ports as the scarcer kind has members: more NICs than GPUs share ports, and so do more GPUs than NICs.
    // With no GPU left each NIC is a port by itself, for a GPU that finds nothing closer.
    const std::size_t num_ports = gpus.empty() ? nics.size() : std::min(gpus.size(), nics.size());
    const auto first = static_cast<std::int32_t>(ports_.size());
    ports_.resize(ports_.size() + num_ports);
    for (std::size_t i = 0; i < nics.size(); ++i) {
      at(ports_, first + static_cast<std::int32_t>(i % num_ports)).push_back(nics[i]);
    }
    for (std::size_t i = 0; i < gpus.size(); ++i) {
      at(port_of_gpu_, gpus[i]) = first + static_cast<std::int32_t>(i * num_ports / gpus.size());
    }
  }

  std::int32_t closest_port(const DevicePlace& gpu) const {
    Indices users(ports_.size(), 0);
    for (const std::int32_t port : port_of_gpu_) {
      if (port >= 0) ++at(users, port);
    }
    std::int32_t best = -1;
    for (std::int32_t p = 0; p < static_cast<std::int32_t>(ports_.size()); ++p) {
      // The closest first; of equally close ones the one with the fewest users, of these the first.
      const auto rank = [&](std::int32_t port) {
        return std::pair(closeness(gpu, at(nics_, at(ports_, port).front()).at), -at(users, port));
      };
      if (best < 0 || rank(p) > rank(best)) best = p;
    }
    return best;
  }

  const std::vector<DevicePlace>& gpus_;
  const std::vector<NicPlace>& nics_;
  std::vector<Indices> ports_;  // of NICs
  Indices port_of_gpu_;
};

void warn_of_idle_nics(const std::vector<NicPlace>& nics, const std::vector<Indices>& ports,
                       std::vector<std::string>* warnings) {
  std::set<std::int32_t> used;
  for (const Indices& port : ports) used.insert(port.begin(), port.end());
  for (std::int32_t n = 0; n < static_cast<std::int32_t>(nics.size()); ++n) {
    if (used.count(n) > 0) continue;
    warnings->push_back(fmt::format("{} serves no GPU, for others are closer to all of them", at(nics, n).nic.name));
  }
}

/// The rails that NICs name; else each port is one. Ports of a rail that are on different planes do not meet either.
void set_rails(const std::vector<NicPlace>& nics, const std::vector<Indices>& ports, NodeType* node,
               std::vector<std::string>* warnings) {
  using Key = std::pair<std::int32_t, std::set<std::int32_t>>;
  std::vector<Key> keys;
  std::set<Key> distinct;
  std::set<std::int32_t> rails;
  bool all_say = true;
  for (const Indices& port : ports) {
    Key key{at(nics, port.front()).rail, {}};
    for (const std::int32_t n : port) {
      key.second.insert(at(nics, n).plane);
      if (at(nics, n).rail != key.first) {
        warnings->push_back(
            fmt::format("{} is on rail {}, and {}, which serves the same GPU, on rail {}; rail {} is taken",
                        at(nics, n).nic.name, at(nics, n).rail, at(nics, port.front()).nic.name, key.first, key.first));
      }
    }
    all_say = all_say && key.first >= 0;
    rails.insert(key.first);
    distinct.insert(key);
    keys.push_back(std::move(key));
  }
  const bool planes_differ = distinct.size() > rails.size();
  for (std::size_t p = 0; p < ports.size(); ++p) {
    std::int32_t& rail = node->ports[p].rail;
    rail = all_say ? keys[p].first : static_cast<std::int32_t>(p);
    if (all_say && planes_differ)
      rail = static_cast<std::int32_t>(std::distance(distinct.begin(), distinct.find(keys[p])));
  }
  if (all_say && planes_differ)
    warnings->push_back("ports of one rail are on different planes; each pair counts as a rail");
}

/// What PCIe lets through to all NICs of a port on their side of what they have in common with the GPU: each NIC has
/// links of its own there, so they add up; one without a limit leaves the port without.
Link nic_side(const DevicePlace& gpu, const std::vector<NicPlace>& nics, const Indices& port) {
  Link sum;
  for (const std::int32_t n : port) {
    const Link own = slowest(at(nics, n).at, closeness(gpu, at(nics, n).at));
    if (!own.is_limited()) return {};
    sum.nominal_bytes_per_s += own.nominal_bytes_per_s;
    sum.efficiency_permille = own.efficiency_permille;
  }
  return sum;
}

/// What PCIe lets through between a GPU and all NICs of its port.
Link pcie_between(const DevicePlace& gpu, const std::vector<NicPlace>& nics, const Indices& port) {
  Link narrowest = nic_side(gpu, nics, port);
  for (const std::int32_t n : port) {
    const Link own = slowest(gpu, closeness(gpu, at(nics, n).at));
    if (!is_slower(narrowest, own)) narrowest = own.is_limited() ? own : narrowest;
  }
  return narrowest;
}

}  // namespace

void pair_gpus_and_nics(const std::vector<DevicePlace>& gpu_places, const std::vector<NicPlace>& nics, NodeType* node,
                        std::vector<std::string>* warnings) {
  Pairing pairing(gpu_places, nics);
  pairing.pair();
  Indices port_of_gpu;
  const std::vector<Indices> ports = pairing.used_ports(&port_of_gpu);
  warn_of_idle_nics(nics, ports, warnings);
  for (const Indices& port : ports) {
    node->ports.emplace_back();
    for (const std::int32_t n : port) node->ports.back().nics.push_back(at(nics, n).nic);
  }
  set_rails(nics, ports, node, warnings);
  for (std::size_t g = 0; g < gpu_places.size(); ++g) {
    NodeType::Gpu& gpu = node->gpus[g];
    gpu.port = port_of_gpu[g];
    if (gpu.port < 0) {
      warnings->push_back(fmt::format("GPU {} has no NIC", g));
      continue;
    }
    gpu.pcie = pcie_between(gpu_places[g], nics, at(ports, gpu.port));
    const Link port = port_link(at(node->ports, gpu.port), {});
    if (!is_slower(gpu.pcie, port)) continue;
    warnings->push_back(
        fmt::format("PCIe between GPU {} and {} is said to carry {} MB/s, less than the {} MB/s of the NICs, and "
                    "limits them; virtual "
                    "machines often report it wrong: if so, give its true speed (pcie)",
                    g, port_name(at(node->ports, gpu.port)), gpu.pcie.nominal_bytes_per_s / 1'000'000,
                    port.nominal_bytes_per_s / 1'000'000));
  }
}

}  // namespace reshard
