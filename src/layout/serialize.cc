// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Writes the bytes that format.h describes and deserialize.cc reads. Numbers that follow from the one before are
// written as their difference from what is expected, which packs to one byte each: a mesh of a thousand ranks in order
// is a kilobyte, and so are its cuts.
#include "src/layout/serialize.h"

#include "src/layout/format.h"
#include "src/layout/packed.h"

namespace reshard {
namespace {

/// Numbers the things that placements share, in the order of their first use.
template <typename T>
class Shared {
 public:
  void see(const std::shared_ptr<const T>& thing) {
    if (thing != nullptr && number_.emplace(thing.get(), std::ssize(things_)).second) things_.push_back(thing.get());
  }
  std::int64_t number(const std::shared_ptr<const T>& thing) const { return number_.at(thing.get()); }
  const std::vector<const T*>& things() const { return things_; }

 private:
  std::unordered_map<const T*, std::int64_t> number_;
  std::vector<const T*> things_;
};

class LayoutWriter {
 public:
  explicit LayoutWriter(const ModelLayout& layout) : layout_(layout) {
    for (std::int64_t t = 0; t < std::ssize(layout.tensors()); ++t) {
      for (const Placement& placement : layout.placements(t)) {
        meshes_.see(placement.mesh);
        for (const DimPlacement& dim : placement.dims) maps_.see(dim.map);
      }
    }
  }

  std::vector<std::byte> write() {
    out_.append(format::kMagic, format::kMagicBytes);
    out_.add(layout_.has_scales() ? format::kVersionWithScales : format::kVersion);
    out_.add(layout_.num_ranks());
    add_size(meshes_.things());
    for (const Mesh* mesh : meshes_.things()) add(*mesh);
    add_size(maps_.things());
    for (const DimMap* map : maps_.things()) add(*map);
    add_size(layout_.buffers());
    for (const Buffer& buffer : layout_.buffers()) add(buffer);
    add_size(layout_.tensors());
    for (std::int64_t t = 0; t < std::ssize(layout_.tensors()); ++t) add_tensor(t);
    if (layout_.has_scales()) add_scales();
    std::uint64_t sum = format::checksum(out_.bytes());
    for (std::size_t i = 0; i < format::kChecksumBytes; ++i, sum >>= 8) {
      const auto byte = static_cast<std::byte>(sum & 0xFF);
      out_.append(&byte, 1);
    }
    return out_.take();
  }

 private:
  template <typename List>
  void add_size(const List& list) {
    out_.add(static_cast<std::int64_t>(list.size()));
  }
  template <typename T>
  void add_list(const std::vector<T>& list) {
    add_size(list);
    for (const T value : list) out_.add(value);
  }

  void add(const Mesh& mesh) {
    add_size(mesh.axes());
    for (const MeshAxis& axis : mesh.axes()) {
      out_.add(axis.name);
      out_.add(axis.size);
    }
    add_size(mesh.ranks());
    std::int64_t expected = 0;  // ranks mostly count up: each then takes one byte
    for (const std::int64_t rank : mesh.ranks()) {
      out_.add(rank - expected);
      expected = rank + 1;
    }
  }

  void add(const DimMap& map) {
    out_.add(map.owns_padding ? 1 : 0);
    add_size(map.parts);
    std::int64_t index = 0;  // segments mostly go on where the one before ended, also from part to part
    for (const DimPart& part : map.parts) {
      out_.add(part.extent);
      add_size(part.segments);
      std::int64_t local = 0;
      for (const Segment& segment : part.segments) {
        out_.add(segment.begin - index);
        out_.add(segment.end - segment.begin);
        out_.add(segment.local - local);
        index = segment.end;
        local = segment.local + segment.end - segment.begin;
      }
    }
  }

  void add(const Buffer& buffer) {
    out_.add(buffer.name);
    out_.add(static_cast<std::int64_t>(buffer.dtype));
    out_.add(buffer.rank);
    out_.add(buffer.size_bytes);
    out_.add(buffer.by_offset ? 1 : 0);
  }

  void add(const Placement& placement) {
    out_.add(meshes_.number(placement.mesh));
    for (const DimPlacement& dim : placement.dims) {
      out_.add(dim.map == nullptr ? 0 : maps_.number(dim.map) + 1);
      add_list(dim.axes);
    }
    add_list(placement.order);
    out_.add(placement.buffer);
    out_.add(placement.offset_bytes);
    out_.add(static_cast<std::int64_t>(placement.padding));
  }

  void add(const RankBlock& given) {
    const Block& block = given.block;
    out_.add(given.rank);
    out_.add(static_cast<std::int64_t>(block.kind));
    out_.add(block.buffer);
    out_.add(block.offset_bytes);
    for (int d = 0; d < block.box.num_dims; ++d) {
      out_.add(block.box.begin[d]);
      out_.add(block.box.end[d]);
      out_.add(block.strides_bytes[d]);
    }
  }

  void add_tensor(std::int64_t index) {
    const Tensor& tensor = at(layout_.tensors(), index);
    out_.add(tensor.name);
    out_.add(static_cast<std::int64_t>(tensor.dtype));
    out_.add(tensor.group);
    add_list(tensor.shape);
    add_size(layout_.placements(index));
    for (const Placement& placement : layout_.placements(index)) add(placement);
    const std::vector<RankBlock> blocks = layout_.rank_blocks(index);
    add_size(blocks);
    for (const RankBlock& given : blocks) add(given);
  }

  void add_scales() {
    std::int64_t count = 0;
    for (std::int64_t t = 0; t < std::ssize(layout_.tensors()); ++t) count += layout_.scales(t).tensor >= 0 ? 1 : 0;
    out_.add(count);
    for (std::int64_t t = 0; t < std::ssize(layout_.tensors()); ++t) {
      const Scales& scales = layout_.scales(t);
      if (scales.tensor < 0) continue;
      out_.add(t);
      out_.add(static_cast<std::int64_t>(scales.kind));
      out_.add(scales.tensor);
    }
  }

  const ModelLayout& layout_;
  Shared<Mesh> meshes_;
  Shared<DimMap> maps_;
  PackedWriter out_;
};

}  // namespace

std::vector<std::byte> serialize(const ModelLayout& layout) {
  return LayoutWriter(layout).write();
}

}  // namespace reshard
