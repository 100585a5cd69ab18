// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <numeric>

#include "src/base/at.h"
#include "topology/gpu_model.h"
#include "topology/read/nccl_tree.h"
#include "topology/read/readers.h"

namespace reshard {
namespace {

/// Sets of GPUs that are joined.
class Sets {
 public:
  explicit Sets(std::size_t size) : parent_(size) { std::iota(parent_.begin(), parent_.end(), 0); }
  std::int32_t find(std::int32_t i) {
    while (at(parent_, i) != i) i = at(parent_, i) = at(parent_, at(parent_, i));
    return i;
  }
  /// The smaller of the two stands for both.
  void join(std::int32_t a, std::int32_t b) {
    a = find(a);
    b = find(b);
    at(parent_, std::max(a, b)) = std::min(a, b);
  }

 private:
  std::vector<std::int32_t> parent_;
};

class NodeMaker {
 public:
  NodeMaker(std::string file, const NodeType* like) : file_(std::move(file)), like_(like) {}

  Result<NodeType> make(NcclNode node) {
    if (node.gpus.empty()) return invalid_argument(fmt::format("{}: host \"{}\" has no GPU", file_, node.host_hash));
    std::stable_sort(node.gpus.begin(), node.gpus.end(),
                     [](const NcclGpu& a, const NcclGpu& b) { return a.dev < b.dev; });
    NodeType type;
    type.name = std::filesystem::path(file_).filename().string();
    for (std::size_t g = 0; g < node.gpus.size(); ++g) {
      type.gpus.emplace_back();
      type.gpus.back().memory_bytes_per_s = memory_of(node.gpus[g]);
    }
    RESHARD_TRY(set_nic_speeds(&node.nics));
    std::vector<DevicePlace> places;
    for (const NcclGpu& gpu : node.gpus) places.push_back(gpu.at);
    std::vector<std::string> pairing_warnings;
    pair_gpus_and_nics(places, node.nics, &type, &pairing_warnings);
    RESHARD_TRY(set_links(node.gpus, &type));
    warnings_.insert(warnings_.end(), node.warnings.begin(), node.warnings.end());
    for (const std::string& warning : pairing_warnings) warn(warning);
    Status checked = check(type);
    if (!checked.ok()) return std::move(checked).with_context(file_);
    return type;
  }

  std::vector<std::string> take_warnings() { return std::move(warnings_); }

 private:
  void warn(const std::string& message) { warnings_.push_back(file_ + ": " + message); }

  const GpuModel* model_of(const NcclGpu& gpu) const {
    const GpuModel* by_device = find_gpu_device(gpu.device);
    return by_device != nullptr || !gpu.has_element ? by_device : find_gpu_model(gpu.sm);
  }

  std::int64_t memory_of(const NcclGpu& gpu) const {
    if (like_ != nullptr && !like_->gpus.empty()) return like_->gpus.front().memory_bytes_per_s;
    const GpuModel* model = model_of(gpu);
    return model == nullptr ? 0 : model->memory_bytes_per_s;
  }

  /// NICs of which the file says only that they are some.
  Status set_nic_speeds(std::vector<NicPlace>* nics) {
    constexpr std::int64_t kNdr = 50'000'000'000;
    for (NicPlace& nic : *nics) {
      if (nic.nic.link.nominal_bytes_per_s > 0) continue;
      const bool has_preset = like_ != nullptr && !like_->ports.empty();
      nic.nic.link = has_preset ? port_link(like_->ports.front(), {}) : nic_link(kNdr);
      if (!has_preset) warn(fmt::format("no speed of {}; taken as 400 Gbit/s", nic.nic.name));
    }
    return {};
  }

  /// What GPUs reach each other by, and which.
  Status set_links(const std::vector<NcclGpu>& gpus, NodeType* type) {
    const std::size_t count = gpus.size();
    Sets sets(count);
    std::int32_t first_switched = -1;
    std::vector<bool> has_nvlink(count, false);
    for (std::size_t g = 0; g < count; ++g) {
      std::int64_t links = gpus[g].switch_links;
      bool is_switched = links > 0;
      for (const auto& [bus_id, peer_links] : gpus[g].peer_links) {
        const auto peer =
            std::find_if(gpus.begin(), gpus.end(), [&id = bus_id](const NcclGpu& p) { return p.bus_id == id; });
        if (peer == gpus.end()) {
          warn(fmt::format("GPU {} has NVLinks to {:.40}, which is not in the file", gpus[g].bus_id, bus_id));
          continue;
        }
        links += peer_links;
        sets.join(static_cast<std::int32_t>(g), static_cast<std::int32_t>(peer - gpus.begin()));
      }
      type->gpus[g].link = link_of(gpus[g], links, &is_switched);
      has_nvlink[g] = type->gpus[g].link.nominal_bytes_per_s > 0;
      if (links > 0 && !has_nvlink[g]) {
        return invalid_argument(fmt::format("{}: GPU {} has NVLinks, and their speed is not known for sm {}", file_,
                                            gpus[g].bus_id, gpus[g].sm));
      }
      if (!is_switched) continue;
      if (first_switched < 0) first_switched = static_cast<std::int32_t>(g);
      sets.join(static_cast<std::int32_t>(g), first_switched);
    }
    number_groups(has_nvlink, gpus, &sets, type);
    return {};
  }

  Link link_of(const NcclGpu& gpu, std::int64_t links, bool* is_switched) {
    const GpuModel* model = model_of(gpu);
    if (links > 0) return model == nullptr ? Link{} : nvlinks(*model, links);
    // A skeleton says nothing of NVLink; a file with gpu elements would.
    if (gpu.has_element) return {};
    const bool has_preset = like_ != nullptr && !like_->gpus.empty();
    *is_switched = has_preset ? like_->gpus.front().link_group >= 0 : model != nullptr && model->num_nvlinks > 0;
    if (has_preset) return like_->gpus.front().link;
    if (model == nullptr) return {};
    warn(fmt::format("no NVLink of GPU {}; taken as {} links through switches, by its PCI id", gpu.bus_id,
                     model->num_nvlinks));
    return nvlinks(*model, model->num_nvlinks);
  }

  /// Groups in the order of their first GPUs; those without NVLink reach each other by PCIe, as one group behind.
  void number_groups(const std::vector<bool>& has_nvlink, const std::vector<NcclGpu>& gpus, Sets* sets,
                     NodeType* type) {
    std::vector<std::int32_t> group_of(gpus.size(), -1);
    std::int32_t num_groups = 0;
    for (std::size_t g = 0; g < gpus.size(); ++g) {
      if (!has_nvlink[g]) continue;
      std::int32_t& group = at(group_of, sets->find(static_cast<std::int32_t>(g)));
      if (group < 0) group = num_groups++;
      type->gpus[g].link_group = group;
    }
    for (std::size_t g = 0; g < gpus.size(); ++g) {
      if (has_nvlink[g]) continue;
      type->gpus[g].link_group = num_groups;
      type->gpus[g].link = type->gpus[g].pcie;
      warn(fmt::format(
          "GPU {} has no NVLink; it is taken to reach others like it by PCIe. Where that is wrong, name the "
          "preset it is like",
          gpus[g].bus_id));
    }
  }

  std::string file_;
  const NodeType* like_;
  std::vector<std::string> warnings_;
};

}  // namespace

Result<ClusterSpec> read_nccl_xml(const std::string& text, const std::string& file, const NodeType* like) {
  RESHARD_TRY(std::vector<NcclNode> nodes, parse_nccl_tree(text, file));
  if (nodes.empty()) return invalid_argument(file + ": no cpu element");
  ClusterSpec spec;
  spec.name = file;
  NodeMaker maker(file, like);
  const auto num_nodes = static_cast<std::int32_t>(nodes.size());
  for (NcclNode& node : nodes) {
    RESHARD_TRY(NodeType type, maker.make(std::move(node)));
    const std::int32_t index = intern(std::move(type), &spec.types);
    if (spec.groups.empty() || spec.groups.back().type != index) spec.groups.push_back({index, 0, {}, num_nodes});
    ++spec.groups.back().num_nodes;
  }
  if (spec.groups.size() == 1) {
    spec.groups.front().num_nodes = 0;  // as many nodes, or domains, of this kind as it takes
  } else {
    spec.places.assign(nodes.size(), {0, 0, 0});
  }
  spec.warnings = maker.take_warnings();
  return spec;
}

}  // namespace reshard
