// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/exec/verify.h"

#include <xxhash.h>

#include <algorithm>
#include <memory>

#include "kernels/copy_list_builder.h"
#include "src/exec/block_cache.h"
#include "src/exec/copies.h"

namespace reshard {
namespace {

// Pieces are brought into one form, dense and row-major, in a buffer that the cache holds.
constexpr std::int64_t kPieceBytes = std::int64_t{1} << 16;

class PieceHasher {
 public:
  PieceHasher(const Plan& plan, std::int32_t rank, const RankMemory& memory,
              const std::function<void(const PieceHash&)>& visit)
      : plan_(plan),
        rank_(rank),
        memory_(memory),
        visit_(visit),
        src_blocks_(*plan.src, rank),
        dst_blocks_(*plan.dst, rank),
        image_(static_cast<std::size_t>(kPieceBytes)) {}

  void hash(std::int64_t only) {
    for (std::size_t b = 0; b < plan_.bundles.size(); ++b) {
      const Bundle& bundle = plan_.bundles[b];
      const bool is_source = plan_.sets.contains(bundle.sources, rank_);
      const bool is_destination = plan_.sets.contains(bundle.destinations, rank_);
      if (!is_source && !is_destination) continue;
      const Strands strands = plan_.strands(bundle);
      for (std::size_t s = 0; s < strands.size(); ++s) {
        const Strand strand = strands[s];
        if (only >= 0 && strand.tensor != only) continue;
        for (std::int32_t a = strand.first_atom; a < strand.first_atom + strand.num_atoms; ++a) {
          if (is_source && is_mine(bundle, a)) hash_atom({strand.tensor, static_cast<std::int32_t>(b), true, 0}, a);
          if (is_destination) hash_atom({strand.tensor, static_cast<std::int32_t>(b), false, 0}, a);
        }
      }
    }
  }

 private:
  /// Of those who hold an atom at the source one hashes it: they take turns.
  bool is_mine(const Bundle& bundle, std::int32_t atom) const {
    const std::vector<std::int32_t>& holders = plan_.sets.ranks(bundle.sources);
    return holders[static_cast<std::size_t>(atom) % holders.size()] == rank_;
  }

  PlacedTensor source(std::int64_t tensor) {
    const std::int64_t id = at(plan_.tensors, tensor).src;
    PlacedTensor placed{&src_blocks_.blocks(id), &memory_.src, at(plan_.src->tensors(), id).dtype, {}};
    if (const Conversion* conversion = plan_.source_conversion(tensor)) {
      const std::int64_t scales = conversion->src_scales;
      placed.scales = {&conversion->grid, &src_blocks_.blocks(scales), &memory_.src,
                       at(plan_.src->tensors(), scales).dtype};
    }
    return placed;
  }

  void hash_atom(PieceHash piece, std::int32_t index) {
    const Atom& atom = at(at(plan_.classes, at(plan_.tensors, piece.tensor).atom_class).atoms, index);
    const std::int64_t id = at(plan_.tensors, piece.tensor).dst;
    const Tensor& wanted = at(plan_.dst->tensors(), id);
    if (piece.is_at_source) {
      piece.hash = hash_of(source(piece.tensor), wanted, atom);
      return visit_(piece);
    }
    const std::vector<Block>& blocks = dst_blocks_.blocks(id);
    piece.hash = hash_of({&blocks, &memory_.dst, wanted.dtype, {}}, wanted, atom);
    // An element that the rank has twice was hashed where it stands first; the others must be equal to it. Each
    // difference has a weight of its own: taken once, that of a block that holds all of the atom would cancel what was
    // hashed of the first.
    for (const Block& block : blocks) {
      if (block.kind != BlockKind::kData) continue;
      const Atom part{intersect(block.box, atom.box), atom.bundle};
      if (part.box.empty() || &block == first_holder(blocks, part.box)) continue;
      const std::vector<Block> one = {block};
      const std::int64_t number = &block - blocks.data();
      piece.hash +=
          XXH3_64bits(&number, sizeof number) * (hash_of({&one, &memory_.dst, wanted.dtype, {}}, wanted, part) -
                                                 hash_of({&blocks, &memory_.dst, wanted.dtype, {}}, wanted, part));
    }
    visit_(piece);
  }

  /// The block in which all of the box stands first; null: it is in several.
  static const Block* first_holder(const std::vector<Block>& blocks, const Box& box) {
    const auto first = std::find_if(blocks.begin(), blocks.end(), [&](const Block& block) {
      return block.kind == BlockKind::kData && !intersect(block.box, box).empty();
    });
    return intersect(first->box, box) == box ? &*first : nullptr;
  }

  /// In the dtype of `wanted`.
  std::uint64_t hash_of(const PlacedTensor& held, const Tensor& wanted, const Atom& atom) {
    const std::int64_t element_bytes = size_bytes(wanted.dtype);
    const std::int64_t most = kPieceBytes / element_bytes;
    const std::int64_t count = atom.box.num_elements();
    std::uint64_t sum = 0;
    for (std::int64_t begin = 0; begin < count; begin += most) {
      const std::int64_t end = std::min(count, begin + most);
      CopyListBuilder copies(std::make_shared<CopyTable>());
      append_pack(held, {-1, &atom, begin, end}, {wanted.dtype, image_.data()}, &copies);
      copies.take().run(StoreHint::kCached);
      sum += XXH3_64bits_withSeed(image_.data(), static_cast<std::size_t>((end - begin) * element_bytes),
                                  seed_of(wanted, atom.box, begin));
    }
    return sum;
  }

  /// Says which piece it is: equal bytes in two places hash differently, so that rows that changed places are found.
  static std::uint64_t seed_of(const Tensor& tensor, const Box& box, std::int64_t begin) {
    std::uint64_t seed = XXH3_64bits(tensor.name.data(), tensor.name.size());
    const auto num_dims = static_cast<std::size_t>(box.num_dims);
    seed = XXH3_64bits_withSeed(box.begin.values, num_dims * sizeof(std::int64_t), seed);
    return XXH3_64bits_withSeed(&begin, sizeof begin, seed);
  }

  const Plan& plan_;
  std::int32_t rank_;
  const RankMemory& memory_;
  const std::function<void(const PieceHash&)>& visit_;
  BlockCache src_blocks_;
  BlockCache dst_blocks_;
  std::vector<std::byte> image_;
};

}  // namespace

void hash_pieces(const Plan& plan, std::int32_t rank, const RankMemory& memory, std::int64_t tensor,
                 const std::function<void(const PieceHash&)>& visit) {
  PieceHasher(plan, rank, memory, visit).hash(tensor);
}

std::vector<std::uint64_t> hash_differences(const Plan& plan, std::int32_t rank, const RankMemory& memory) {
  std::vector<std::uint64_t> differences(plan.tensors.size());
  hash_pieces(plan, rank, memory, -1, [&](const PieceHash& piece) {
    const auto copies = plan.sets.ranks(at(plan.bundles, piece.bundle).destinations).size();
    std::uint64_t& difference = at(differences, piece.tensor);
    difference += piece.is_at_source ? copies * piece.hash : 0 - piece.hash;
  });
  return differences;
}

std::vector<std::uint64_t> hash_differences_of(const Plan& plan, std::int32_t rank, const RankMemory& memory,
                                               std::int64_t tensor) {
  std::vector<std::uint64_t> differences(static_cast<std::size_t>(plan.num_ranks));
  hash_pieces(plan, rank, memory, tensor, [&](const PieceHash& piece) {
    if (!piece.is_at_source) {
      at(differences, rank) -= piece.hash;
      return;
    }
    for (const std::int32_t holder : plan.sets.ranks(at(plan.bundles, piece.bundle).destinations)) {
      at(differences, holder) += piece.hash;
    }
  });
  return differences;
}

}  // namespace reshard
