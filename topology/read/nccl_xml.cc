// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// From the elements of an NCCL topology (nccl_tree.h reads them) to nodes: NICs are paired with GPUs, speeds that the
// file leaves out come from the preset that the caller named, and what is odd becomes a warning.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <optional>

#include "topology/gpu_model.h"
#include "topology/link_groups.h"
#include "topology/read/nccl_tree.h"
#include "topology/read/readers.h"

namespace reshard {
namespace {

class NodeMaker {
 public:
  NodeMaker(std::string file, const NodeType* like) : file_(std::move(file)), like_(like) {}

  Result<NodeType> make(NcclNode node) {
    if (node.gpus.empty()) return invalid_argument(fmt::format("{}: host \"{}\" has no GPU", file_, node.host_hash));
    // By the number that the file gives a device, whatever order the elements have: ranks take the GPUs of a node in
    // this one.
    std::stable_sort(node.gpus.begin(), node.gpus.end(),
                     [](const NcclGpu& a, const NcclGpu& b) { return a.dev < b.dev; });
    NodeType type;
    type.name = std::filesystem::path(file_).filename().string();
    for (std::size_t g = 0; g < node.gpus.size(); ++g) {
      type.gpus.emplace_back();
      type.gpus.back().memory = memory_of(node.gpus[g]);
      type.gpus.back().multicast_permille = multicast_of(node.gpus[g]);
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

  // The PCI id is exact; the compute capability is shared by boards of different memory, and good for want of better.
  const GpuModel* model_of(const NcclGpu& gpu) const {
    if (!gpu.is_nvidia) return nullptr;
    const GpuModel* by_device = find_gpu_device(gpu.device);
    return by_device != nullptr || !gpu.has_element ? by_device : find_gpu_model(gpu.sm);
  }

  Link memory_of(const NcclGpu& gpu) const {
    if (like_ != nullptr && !like_->gpus.empty()) return like_->gpus.front().memory;
    const GpuModel* model = model_of(gpu);
    return memory_link(model == nullptr ? kUnlimited : model->memory_bytes_per_s);
  }

  std::int32_t multicast_of(const NcclGpu& gpu) const {
    if (like_ != nullptr && !like_->gpus.empty()) return like_->gpus.front().multicast_permille;
    const GpuModel* model = model_of(gpu);
    return model == nullptr || gpu.switch_links == 0 ? 0 : model->multicast_permille;
  }

  /// NICs of which the file says only that they are some.
  Status set_nic_speeds(std::vector<NicPlace>* nics) {
    constexpr std::int64_t kNdr = 50'000'000'000;
    for (NicPlace& nic : *nics) {
      if (nic.nic.link.is_limited()) continue;  // its speed is known
      const bool has_preset = like_ != nullptr && !like_->ports.empty();
      nic.nic.link = has_preset ? port_link(like_->ports.front(), {}) : nic_link(kNdr);
      if (!has_preset) warn(fmt::format("no speed of {}; taken as 400 Gbit/s", nic.nic.name));
    }
    return {};
  }

  /// What GPUs reach each other by, and which.
  Status set_links(const std::vector<NcclGpu>& gpus, NodeType* type) {
    std::vector<GpuLinks> all;
    for (const NcclGpu& gpu : gpus) {
      GpuLinks links{gpu.bus_id, gpu.switch_links > 0, {}, {}};
      std::int64_t count = gpu.switch_links;
      for (const auto& [bus_id, peer_links] : gpu.peer_links) {
        const auto is_peer = [&id = bus_id](const NcclGpu& other) { return other.bus_id == id; };
        if (std::none_of(gpus.begin(), gpus.end(), is_peer)) {
          warn(fmt::format("GPU {} has NVLinks to {:.40}, which is not in the file", gpu.bus_id, bus_id));
          continue;
        }
        count += peer_links;
        links.peers.push_back(bus_id);
      }
      links.link = link_of(gpu, count, &links.is_switched);
      if (count > 0 && !links.link.has_value()) {
        return invalid_argument(
            fmt::format("{}: GPU {} has NVLinks, and their speed is not known for sm {}", file_, gpu.bus_id, gpu.sm));
      }
      all.push_back(std::move(links));
    }
    std::vector<std::string> warnings;
    group_gpus(all, type, &warnings);
    for (const std::string& warning : warnings) warn(warning);
    return {};
  }

  /// Nothing where the GPU has no NVLink, or links of a speed that is not known.
  std::optional<Link> link_of(const NcclGpu& gpu, std::int64_t links, bool* is_switched) {
    const GpuModel* model = model_of(gpu);
    if (links > 0)
      return model == nullptr || model->num_nvlinks == 0 ? std::nullopt : std::optional(nvlinks(*model, links));
    // A skeleton says nothing of NVLink; a file with gpu elements would.
    if (gpu.has_element) return std::nullopt;
    const bool has_preset = like_ != nullptr && !like_->gpus.empty();
    *is_switched = has_preset ? like_->gpus.front().link_group >= 0 : model != nullptr && model->num_nvlinks > 0;
    if (has_preset) return like_->gpus.front().link;
    if (model == nullptr || model->num_nvlinks == 0) return std::nullopt;
    warn(fmt::format("no NVLink of GPU {}; taken as {} links through switches, by its PCI id", gpu.bus_id,
                     model->num_nvlinks));
    return nvlinks(*model, model->num_nvlinks);
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
    // Equal nodes in a row are one group; their NVLink domain is all hosts of the file, because NCCL writes one for a
    // domain.
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
