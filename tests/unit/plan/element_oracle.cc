// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "tests/unit/plan/element_oracle.h"

#include <algorithm>
#include <set>

#include "tests/unit/scenario/scenario.h"

namespace reshard::testing {
namespace {

constexpr Mask bit(std::int64_t i) {
  return Mask{1} << i;
}

std::int64_t count_elements(const std::vector<std::int64_t>& shape) {
  std::int64_t count = 1;
  for (const std::int64_t extent : shape) count *= extent;
  return count;
}

std::vector<Mask> holders_of(const ModelLayout& layout, std::int64_t tensor) {
  const std::vector<std::int64_t>& shape = at(layout.tensors(), tensor).shape;
  std::vector<Mask> out(static_cast<std::size_t>(count_elements(shape)));
  for (std::int32_t rank = 0; rank < layout.num_ranks(); ++rank) {
    for (const Block& block : layout.blocks(rank, tensor)) {
      if (block.kind != BlockKind::kData) continue;
      for_each_element(block, [&](const Dims& index, std::int64_t) { at(out, flat_index(shape, index)) |= bit(rank); });
    }
  }
  return out;
}

/// A region is what lies behind something: a domain, the leaf switches of a block, a pod.
class Brute {
 public:
  Brute(const Machine& machine, const std::map<Need, std::int64_t>& needs) : machine_(machine), needs_(needs) {
    for (const Machine::Gpu& gpu : machine.gpus) domain_of_.push_back(gpu.domain);
  }

  std::map<std::string, double> run() {
    of_gpus();
    of_domains();
    if (machine_.domains.size() <= kMostDomains) out_["LB4 source set"] = best_set();
    of_blocks();
    of_pods();
    return std::move(out_);
  }

 private:
  void offer(const std::string& name, std::int64_t bytes, std::int64_t rate) {
    double& largest = out_[name];
    if (rate > 0) largest = std::max(largest, static_cast<double>(bytes) / static_cast<double>(rate));
  }

  Mask regions(Mask ranks, const std::vector<std::int32_t>& region_of) const {
    Mask out = 0;
    for (std::size_t r = 0; r < region_of.size(); ++r) {
      if ((ranks & bit(static_cast<std::int64_t>(r))) != 0 && region_of[r] >= 0) out |= bit(region_of[r]);
    }
    return out;
  }

  /// What the rank wants and has not.
  std::int64_t lacks(std::int64_t rank) const {
    std::int64_t sum = 0;
    for (const auto& [need, bytes] : needs_) {
      if ((need.wanted & ~need.sources & bit(rank)) != 0) sum += bytes;
    }
    return sum;
  }
  /// What is wanted in the region and not there.
  std::int64_t entering(std::int32_t region, const std::vector<std::int32_t>& region_of) const {
    std::int64_t sum = 0;
    for (const auto& [need, bytes] : needs_) {
      const Mask lacking = regions(need.wanted, region_of) & ~regions(need.sources, region_of);
      if ((lacking & bit(region)) != 0) sum += bytes;
    }
    return sum;
  }
  /// What only regions of the set have, and some region lacks.
  std::int64_t leaving(Mask set, const std::vector<std::int32_t>& region_of) const {
    std::int64_t sum = 0;
    for (const auto& [need, bytes] : needs_) {
      const Mask have = regions(need.sources, region_of);
      if ((regions(need.wanted, region_of) & ~have) != 0 && (have & ~set) == 0) sum += bytes;
    }
    return sum;
  }

  template <typename Rate>
  std::int64_t ports_of(std::int32_t domain, const Rate& rate) const {
    std::vector<bool> is_counted(machine_.ports.size());
    std::int64_t sum = 0;
    for (const Machine::Gpu& gpu : machine_.gpus) {
      if (gpu.domain != domain || gpu.port < 0 || at(is_counted, gpu.port)) continue;
      at(is_counted, gpu.port) = true;
      sum += rate(at(machine_.ports, gpu.port));
    }
    return sum;
  }
  /// What passes the rank's memory in any plan: written once if it lacks it, read and written if it copies it, read for
  /// others if nobody else has it.
  std::int64_t in_memory(std::int64_t rank) const {
    std::int64_t sum = lacks(rank);
    for (const auto& [need, bytes] : needs_) {
      if ((need.wanted & need.sources & bit(rank)) != 0) sum += 2 * bytes;
      if (need.sources == bit(rank) && (need.wanted & ~need.sources) != 0) sum += bytes;
    }
    return sum;
  }

  /// All that ranks of a domain want is written in their memories; so is it read there, but for what ports let in.
  void of_memories(std::int32_t domain) {
    std::int64_t bytes = 0;
    std::int64_t rate = ports_of(domain, [&](const Machine::Port& port) { return reached_in(port, domain); });
    for (std::int32_t r = 0; r < machine_.num_ranks(); ++r) {
      const Machine::Gpu& gpu = at(machine_.gpus, r);
      if (gpu.domain != domain) continue;
      if (gpu.memory.bytes_per_s() == 0) return;
      rate += gpu.memory.bytes_per_s();
      for (const auto& [need, size] : needs_) bytes += (need.wanted & bit(r)) != 0 ? 2 * size : 0;
    }
    offer("LB8 memory", bytes, rate);
  }

  std::int64_t ports_in(std::int32_t domain) const {
    return ports_of(domain, [](const Machine::Port& port) { return port.in.bytes_per_s(); });
  }
  std::int64_t ports_out(std::int32_t domain) const {
    return ports_of(domain, [](const Machine::Port& port) { return port.out.bytes_per_s(); });
  }

  /// What comes in by a port: no more than ranks of other domains can send to it.
  std::int64_t reached_in(const Machine::Port& port, std::int32_t domain) const {
    std::set<std::int32_t> others;
    for (const Machine::Gpu& gpu : machine_.gpus) {
      if (gpu.domain == domain || gpu.port < 0) continue;
      if (!machine_.rail_isolated || at(machine_.ports, gpu.port).rail == port.rail) others.insert(gpu.port);
    }
    std::int64_t sent = 0;
    for (const std::int32_t other : others) sent += at(machine_.ports, other).out.bytes_per_s();
    return std::min(port.in.bytes_per_s(), sent);
  }

  void of_gpus() {
    for (std::int32_t r = 0; r < machine_.num_ranks(); ++r) {
      const Machine::Gpu& gpu = at(machine_.gpus, r);
      const bool is_alone = std::count(domain_of_.begin(), domain_of_.end(), gpu.domain) == 1;
      std::int64_t rate = gpu.port < 0 ? 0 : reached_in(at(machine_.ports, gpu.port), gpu.domain);
      if (gpu.pcie.bytes_per_s() > 0) rate = std::min(rate, gpu.pcie.bytes_per_s());
      if (!is_alone) rate = gpu.link.bytes_per_s() == 0 ? 0 : rate + gpu.link.bytes_per_s();
      offer("LB1 gpu ingress", lacks(r), rate);
      offer("LB8 memory", in_memory(r), gpu.memory.bytes_per_s());
    }
  }

  void of_domains() {
    for (std::int32_t d = 0; d < static_cast<std::int32_t>(machine_.domains.size()); ++d) {
      offer("LB2 domain ingress", entering(d, domain_of_), ports_in(d));
      offer("LB3 domain egress", leaving(bit(d), domain_of_), ports_out(d));
      if (machine_.rail_isolated) offer("LB6 rail", entering(d, domain_of_), rails_into(d));
      std::int64_t pcie = 0;
      bool pcie_limits = true;
      for (std::int32_t r = 0; r < machine_.num_ranks(); ++r) {
        const Machine::Gpu& gpu = at(machine_.gpus, r);
        if (gpu.domain != d) continue;
        if (gpu.port >= 0) pcie += gpu.pcie.bytes_per_s();
        pcie_limits = pcie_limits && (gpu.port < 0 || gpu.pcie.bytes_per_s() > 0);
      }
      of_memories(d);
      for (std::int32_t port = 0; port < static_cast<std::int32_t>(machine_.ports.size()); ++port) of_sharers(d, port);
      offer("LB8 pcie", entering(d, domain_of_), pcie_limits ? pcie : 0);
    }
  }

  /// Ranks of a domain that lack something and share a port.
  void of_sharers(std::int32_t domain, std::int32_t port) {
    const bool has_links = std::count(domain_of_.begin(), domain_of_.end(), domain) > 1;
    std::int64_t lacking = 0;
    std::int64_t rate = reached_in(at(machine_.ports, port), domain);
    for (std::int32_t r = 0; r < machine_.num_ranks(); ++r) {
      const Machine::Gpu& gpu = at(machine_.gpus, r);
      if (gpu.domain != domain || gpu.port != port || lacks(r) == 0) continue;
      if (has_links && gpu.link.bytes_per_s() == 0) return;
      lacking += lacks(r);
      if (has_links) rate += gpu.link.bytes_per_s();
    }
    offer("LB7 domain links and ports", lacking, rate);
  }

  /// Over the rails, the lesser of what comes in here and what goes out elsewhere.
  std::int64_t rails_into(std::int32_t domain) const {
    std::int64_t sum = 0;
    for (std::int32_t rail = 0; rail < 32; ++rail) {
      const std::int64_t in =
          ports_of(domain, [&](const Machine::Port& port) { return port.rail == rail ? port.in.bytes_per_s() : 0; });
      std::int64_t out = 0;
      for (std::int32_t other = 0; other < static_cast<std::int32_t>(machine_.domains.size()); ++other) {
        if (other == domain) continue;
        out +=
            ports_of(other, [&](const Machine::Port& port) { return port.rail == rail ? port.out.bytes_per_s() : 0; });
      }
      sum += std::min(in, out);
    }
    return sum;
  }

  double best_set() const {
    double best = 0;
    for (Mask set = 1; set < bit(static_cast<std::int64_t>(machine_.domains.size())); ++set) {
      std::int64_t rate = 0;
      for (std::int32_t d = 0; d < static_cast<std::int32_t>(machine_.domains.size()); ++d) {
        if ((set & bit(d)) != 0) rate += ports_out(d);
      }
      if (rate == 0) continue;
      best = std::max(best, static_cast<double>(leaving(set, domain_of_)) / static_cast<double>(rate));
    }
    return best;
  }

  /// Whether a domain's own links join two of the regions.
  bool is_bypassed(const std::vector<std::int32_t>& region_of) const {
    for (std::size_t a = 0; a < region_of.size(); ++a) {
      for (std::size_t b = 0; b < a; ++b) {
        if (domain_of_[a] == domain_of_[b] && region_of[a] >= 0 && region_of[b] >= 0 && region_of[a] != region_of[b])
          return true;
      }
    }
    return false;
  }

  void of_blocks() {
    out_["LB5 leaf"] = 0;
    std::vector<std::int32_t> block_of;
    for (const Machine::Gpu& gpu : machine_.gpus) block_of.push_back(at(machine_.nodes, gpu.node).block);
    if (is_bypassed(block_of)) return;
    for (std::int32_t block = 0; block < 32; ++block) {
      offer("LB5 leaf", entering(block, block_of),
            crossing(true, [&](const Machine::Leaf& leaf) { return leaf.block == block; }));
      offer("LB5 leaf", leaving(bit(block), block_of),
            crossing(false, [&](const Machine::Leaf& leaf) { return leaf.block == block; }));
    }
  }

  /// What a leaf and the ports that ranks have on it carry of a rail (-1: of all), into them or out of them.
  std::int64_t through_leaf(std::int32_t leaf, std::int32_t rail, bool is_in) const {
    std::set<std::int32_t> ports;
    for (const Machine::Gpu& gpu : machine_.gpus) {
      if (gpu.port < 0 || at(machine_.ports, gpu.port).leaf != leaf) continue;
      if (rail < 0 || at(machine_.ports, gpu.port).rail == rail) ports.insert(gpu.port);
    }
    std::int64_t sum = 0;
    for (const std::int32_t id : ports) {
      const Machine::Port& port = at(machine_.ports, id);
      sum += (is_in ? port.in : port.out).bytes_per_s();
    }
    const Link& link = is_in ? at(machine_.leaves, leaf).down : at(machine_.leaves, leaf).up;
    return link.bytes_per_s() > 0 ? std::min(sum, link.bytes_per_s()) : sum;
  }

  /// Into the region whose leaves these are, or out of it: as much of each rail as those on both sides carry.
  template <typename IsOurs>
  std::int64_t crossing(bool is_in, const IsOurs& is_ours, const Link* pod = nullptr) const {
    std::int64_t sum = 0;
    for (std::int32_t rail = machine_.rail_isolated ? 0 : -1; rail < (machine_.rail_isolated ? 32 : 0); ++rail) {
      std::int64_t ours = 0;
      std::map<std::int32_t, std::int64_t> theirs;  // by pod, whose uplink they share
      for (std::int32_t leaf = 0; leaf < static_cast<std::int32_t>(machine_.leaves.size()); ++leaf) {
        if (is_ours(at(machine_.leaves, leaf))) {
          ours += through_leaf(leaf, rail, is_in);
        } else {
          theirs[pod == nullptr ? -1 : at(machine_.leaves, leaf).pod.value()] += through_leaf(leaf, rail, !is_in);
        }
      }
      if (pod != nullptr && pod->bytes_per_s() > 0) ours = std::min(ours, pod->bytes_per_s());
      std::int64_t other_side = 0;
      for (const auto& [id, rate] : theirs) {
        const Link* link = id < 0 ? nullptr : is_in ? &at(machine_.pods, id).up : &at(machine_.pods, id).down;
        other_side += link != nullptr && link->bytes_per_s() > 0 ? std::min(rate, link->bytes_per_s()) : rate;
      }
      sum += std::min(ours, other_side);
    }
    return pod != nullptr && pod->bytes_per_s() > 0 ? std::min(sum, pod->bytes_per_s()) : sum;
  }

  /// A GPU without a port is where its domain is.
  void of_pods() {
    out_["LB5 pod"] = 0;
    std::vector<std::int32_t> pod_of;
    for (const Machine::Gpu& gpu : machine_.gpus) {
      pod_of.push_back(gpu.port < 0 ? -1 : at(machine_.leaves, at(machine_.ports, gpu.port).leaf).pod);
    }
    if (is_bypassed(pod_of)) return;
    for (std::size_t a = 0; a < pod_of.size(); ++a) {
      for (std::size_t b = 0; b < pod_of.size(); ++b) {
        if (domain_of_[a] == domain_of_[b]) pod_of[a] = std::max(pod_of[a], pod_of[b]);
      }
    }
    for (std::size_t pod = 0; pod < machine_.pods.size(); ++pod) {
      const auto region = static_cast<std::int32_t>(pod);
      const Machine::Pod& its = machine_.pods[PodId(pod)];
      const auto is_ours = [&](const Machine::Leaf& leaf) { return leaf.pod == region; };
      offer("LB5 pod", entering(region, pod_of), crossing(true, is_ours, &its.down));
      offer("LB5 pod", leaving(bit(region), pod_of), crossing(false, is_ours, &its.up));
    }
  }

  const Machine& machine_;
  const std::map<Need, std::int64_t>& needs_;
  std::vector<std::int32_t> domain_of_;  // by rank
  std::map<std::string, double> out_;
};

}  // namespace

std::map<Need, std::int64_t> needs_of(const ModelLayout& src, const ModelLayout& dst) {
  std::map<Need, std::int64_t> out;
  for (std::size_t t = 0; t < dst.tensors().size(); ++t) {
    const Tensor& tensor = dst.tensors()[t];
    const std::int64_t src_id = src.find_tensor(tensor.name);
    const std::int64_t wire_bytes = std::min(size_bytes(tensor.dtype), size_bytes(at(src.tensors(), src_id).dtype));
    const std::vector<Mask> sources = holders_of(src, src_id);
    const std::vector<Mask> wanted = holders_of(dst, static_cast<std::int64_t>(t));
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      if (wanted[i] != 0) out[{sources[i], wanted[i], tensor.group}] += wire_bytes;
    }
  }
  return out;
}

std::map<std::string, double> brute_bounds(const Machine& machine, const std::map<Need, std::int64_t>& needs) {
  return Brute(machine, needs).run();
}

}  // namespace reshard::testing
