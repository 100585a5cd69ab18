// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "tests/unit/plan/element_oracle.h"

#include <algorithm>

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
  std::int64_t ports_in(std::int32_t domain) const {
    return ports_of(domain, [](const Machine::Port& port) { return port.in.bytes_per_s(); });
  }
  std::int64_t ports_out(std::int32_t domain) const {
    return ports_of(domain, [](const Machine::Port& port) { return port.out.bytes_per_s(); });
  }

  /// 0 if no rank of another domain can send to the port.
  std::int64_t reached_in(const Machine::Port& port, std::int32_t domain) const {
    const bool is_reached = std::any_of(machine_.gpus.begin(), machine_.gpus.end(), [&](const Machine::Gpu& gpu) {
      if (gpu.domain == domain || gpu.port < 0) return false;
      const Machine::Port& other = at(machine_.ports, gpu.port);
      return other.out.bytes_per_s() > 0 && (!machine_.rail_isolated || other.rail == port.rail);
    });
    return is_reached ? port.in.bytes_per_s() : 0;
  }

  void of_gpus() {
    for (std::int32_t r = 0; r < machine_.num_ranks(); ++r) {
      const Machine::Gpu& gpu = at(machine_.gpus, r);
      const bool is_alone = std::count(domain_of_.begin(), domain_of_.end(), gpu.domain) == 1;
      std::int64_t rate = gpu.port < 0 ? 0 : reached_in(at(machine_.ports, gpu.port), gpu.domain);
      if (!is_alone) rate = gpu.link.bytes_per_s() == 0 ? 0 : rate + gpu.link.bytes_per_s();
      offer("LB1 gpu ingress", lacks(r), rate);
      offer("LB8 memory", lacks(r), gpu.memory_bytes_per_s);
    }
  }

  void of_domains() {
    for (std::int32_t d = 0; d < static_cast<std::int32_t>(machine_.domains.size()); ++d) {
      offer("LB2 domain ingress", entering(d, domain_of_), ports_in(d));
      offer("LB3 domain egress", leaving(bit(d), domain_of_), ports_out(d));
      if (machine_.rail_isolated) offer("LB6 rail", entering(d, domain_of_), rails_into(d));
      std::int64_t links = 0;
      std::int64_t pcie = 0;
      std::int64_t lacking = 0;
      bool links_limit = true;
      bool pcie_limits = true;
      for (std::int32_t r = 0; r < machine_.num_ranks(); ++r) {
        const Machine::Gpu& gpu = at(machine_.gpus, r);
        if (gpu.domain != d) continue;
        lacking += lacks(r);
        links += gpu.link.bytes_per_s();
        links_limit = links_limit && gpu.link.bytes_per_s() > 0;
        if (gpu.port >= 0) pcie += gpu.pcie.bytes_per_s();
        pcie_limits = pcie_limits && (gpu.port < 0 || gpu.pcie.bytes_per_s() > 0);
      }
      const bool has_links = std::count(domain_of_.begin(), domain_of_.end(), d) > 1;
      const std::int64_t ports = ports_of(d, [&](const Machine::Port& port) { return reached_in(port, d); });
      offer("LB7 domain links and ports", lacking, !has_links ? ports : links_limit ? links + ports : 0);
      offer("LB8 pcie", entering(d, domain_of_), pcie_limits ? pcie : 0);
    }
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
      std::int64_t up = 0;
      std::int64_t down = 0;
      for (const Machine::Leaf& leaf : machine_.leaves) {
        if (leaf.block != block) continue;
        up += leaf.up.bytes_per_s();
        down += leaf.down.bytes_per_s();
      }
      offer("LB5 leaf", entering(block, block_of), down);
      offer("LB5 leaf", leaving(bit(block), block_of), up);
    }
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
      offer("LB5 pod", entering(region, pod_of), machine_.pods[PodId(pod)].down.bytes_per_s());
      offer("LB5 pod", leaving(bit(region), pod_of), machine_.pods[PodId(pod)].up.bytes_per_s());
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
